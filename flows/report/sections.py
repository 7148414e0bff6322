"""Collects what the report says of one run, as plain values for the page."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from flows.report.figures import (
    condition_figure,
    curve_figure,
    length_figure,
    loss_figure,
    reward_figure,
)
from flows.report.words import Word, more_frequent
from flows.views.advice import advice_of
from flows.views.recorded import read_recorded
from flows.views.results import Results, held_out_results
from flows.views.showing import explain
from seal_core.config_changes import config_identity
from storage.sql.catalog import Catalog

_SHOWN_EDITS = 10
"""Of each split."""
_MOST_POINTS = 2_000
_REWARDS = """
SELECT s.round, s.reward, s.gain, e.n_tokens FROM scores s
JOIN self_edits e USING (run, round, self_edit_id)
WHERE s.run = $run AND s.split = 'train' AND s.reward IS NOT NULL
ORDER BY s.round, s.self_edit_id
"""
_LOSSES = """
SELECT split || ' ' || condition, avg(first_loss), avg(final_loss) FROM adapters
WHERE run = $run AND first_loss IS NOT NULL AND final_loss IS NOT NULL
GROUP BY ALL ORDER BY min(round), 1
"""
_NOISE = "SELECT * EXCLUDE (run) FROM noise WHERE run = $run ORDER BY round, split"
_COST = "SELECT * EXCLUDE (run) FROM cost_by_stage WHERE run = $run"
_IDS = """
SELECT self_edit_id FROM {view} WHERE run = $run
QUALIFY row_number() OVER (PARTITION BY split ORDER BY gain {order}, self_edit_id) <= $n
ORDER BY split DESC, gain {order}, self_edit_id
"""
_TEXTS = """
SELECT e.text, x.kept FROM self_edits e JOIN selections x USING (run, round, self_edit_id)
WHERE e.run = $run AND e.split = 'train' AND e.unusable IS NULL AND e.error IS NULL
"""
_HELD_OUT_TEXTS = """
SELECT e.round, e.text FROM self_edits e
WHERE e.run = $run AND e.split = 'heldout' AND starts_with(e.condition, 'round_')
    AND e.unusable IS NULL AND e.error IS NULL
"""
_VERSIONS = "SELECT DISTINCT versions FROM stages WHERE run = $run AND error IS NULL"
_SPEED = """
SELECT sum(n_units - coalesce(n_reused, 0))::BIGINT, sum(seconds) FROM stages
WHERE run = $run AND stage = 'finetune' AND error IS NULL
"""


@dataclass(frozen=True)
class Table:
    """Column names and rows."""

    columns: list[str]
    rows: list[tuple[Any, ...]]


@dataclass(frozen=True)
class RunSections:
    """What the page says of one run; figures are SVG, None where there is nothing to draw.

    Attributes:
        edits_per_hour: Adapters trained per hour of worker time; None if none was.
        best, worst: As `seal show --json` tells each self-edit.
        kept_words: More frequent in kept than in other training self-edits.
        learnt_words: More frequent in the last policy's held-out self-edits than in the first's.
        settings: The configuration, `section.key` and value.
    """

    run: str
    created_at: str
    results: Results
    advice: list[str]
    conditions: str
    curve: str
    rewards: str | None
    lengths: str | None
    losses: str | None
    noise: Table
    cost: Table
    edits_per_hour: float | None
    best: list[dict[str, Any]]
    worst: list[dict[str, Any]]
    kept_words: list[Word]
    learnt_words: list[Word]
    settings: list[tuple[str, str]]
    versions: list[str]


def run_sections(catalog: Catalog, run: str, place: int) -> RunSections:
    """Reads a run.

    Args:
        place: Number of the run in the page.

    Raises:
        InputError: there is no such run, or it has no held-out answers yet.
    """
    results = held_out_results(catalog, run)
    rewards: dict[int, list[float]] = defaultdict(list)
    lengths: dict[int, list[tuple[int, float]]] = defaultdict(list)
    for round_index, reward, gain, tokens in catalog.fetch(_REWARDS, run=run):
        rewards[round_index].append(reward)
        if gain is not None and tokens is not None and len(lengths[round_index]) < _MOST_POINTS:
            lengths[round_index].append((tokens, gain))
    lengths = {index: points for index, points in lengths.items() if points}
    losses = catalog.fetch(_LOSSES, run=run)
    trained, seconds = catalog.fetch(_SPEED, run=run)[0]
    created = catalog.fetch("SELECT created_at FROM runs WHERE run = $run", run=run)[0][0]
    return RunSections(
        run=run,
        created_at=created,
        results=results,
        advice=[str(item) for item in advice_of(catalog, run)],
        conditions=condition_figure(results.conditions, f"r{place}-conditions"),
        curve=curve_figure(results.conditions, f"r{place}-curve"),
        rewards=reward_figure(rewards, f"r{place}-rewards") if rewards else None,
        lengths=length_figure(lengths, f"r{place}-lengths") if lengths else None,
        losses=loss_figure(losses, f"r{place}-losses") if losses else None,
        noise=_table(catalog, _NOISE, run),
        cost=_table(catalog, _COST, run),
        edits_per_hour=3600 * trained / seconds if trained and seconds else None,
        best=_edits(catalog, run, "best_edits", "DESC"),
        worst=_edits(catalog, run, "worst_edits", "ASC"),
        kept_words=_kept_words(catalog, run),
        learnt_words=_learnt_words(catalog, run),
        settings=_flat(config_identity(read_recorded(catalog, run))),
        versions=_versions(catalog, run),
    )


def _table(catalog: Catalog, sql: str, run: str) -> Table:
    found = catalog.query(sql, run=run)
    return Table(list(found.columns), found.rows)


def _edits(catalog: Catalog, run: str, view: str, order: str) -> list[dict[str, Any]]:
    ids = catalog.fetch(_IDS.format(view=view, order=order), run=run, n=_SHOWN_EDITS)
    return [explain(catalog, item, run) for (item,) in ids]


def _kept_words(catalog: Catalog, run: str) -> list[Word]:
    rows = catalog.fetch(_TEXTS, run=run)
    return more_frequent([t for t, kept in rows if kept], [t for t, kept in rows if not kept])


def _learnt_words(catalog: Catalog, run: str) -> list[Word]:
    by_round: dict[int, list[str]] = defaultdict(list)
    for round_index, text in catalog.fetch(_HELD_OUT_TEXTS, run=run):
        by_round[round_index].append(text)
    if len(by_round) < 2:
        return []
    return more_frequent(by_round[max(by_round)], by_round[min(by_round)])


def _versions(catalog: Catalog, run: str) -> list[str]:
    found = [json.loads(text) for (text,) in catalog.fetch(_VERSIONS, run=run)]
    return sorted({f"{name} {number}" for item in found for name, number in item.items()})


def _flat(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    if not isinstance(value, dict):
        return [(prefix, json.dumps(value, ensure_ascii=False))]
    return [
        pair
        for key, item in sorted(value.items())
        for pair in _flat(item, f"{prefix}.{key}" if prefix else key)
    ]
