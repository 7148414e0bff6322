"""Tells what a policy is: where it comes from, what it learnt from and how its self-edits do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from storage.sql.catalog import Catalog

_LINEAGE = """
SELECT path, depth FROM policy_lineage WHERE run = $run AND policy_id = $policy LIMIT 1
"""
_LEARNT = """
SELECT s.self_edit_id, s.reward FROM selections s
WHERE s.run = $run AND s.policy_id = $parent AND s.kept ORDER BY s.problem_id, s.self_edit_id
"""
_WROTE = """
SELECT e.split, count(*) AS n, count(e.unusable) AS n_unusable, avg(s.reward) AS mean_reward,
    avg(s.gain) AS mean_gain
FROM self_edits e LEFT JOIN scores s USING (run, round, self_edit_id)
WHERE e.run = $run AND e.policy_id = $policy AND starts_with(e.condition, 'round_')
GROUP BY e.split ORDER BY e.split DESC
"""


def own_first(catalog: Catalog, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of one policy, those first of runs that made it, and did not only measure it."""
    sql = "SELECT 1 FROM policies WHERE run = $run AND policy_id = $parent"
    return sorted(
        rows,
        key=lambda row: (
            row["parent"] is not None
            and not catalog.fetch(sql, run=row["run"], parent=row["parent"])
        ),
    )


def about_policy(catalog: Catalog, policy: dict[str, Any]) -> dict[str, Any]:
    """Lineage, the self-edits that it was trained on, and what it wrote, as plain JSON types."""
    run, item = policy["run"], policy["policy_id"]
    lineage = catalog.records(_LINEAGE, run=run, policy=item)
    return {
        "lineage": lineage[0]["path"] if lineage else [item],
        "learnt_from": catalog.records(_LEARNT, run=run, parent=policy["parent"])
        if policy["parent"]
        else [],
        "wrote": catalog.records(_WROTE, run=run, policy=item),
    }


def policy_sections(found: dict[str, Any]) -> Iterator[tuple[str, Sequence[str]]]:
    """Titles and lines for a person."""
    policy = found["policy"]
    yield "Base model", [policy["base_model"]]
    yield "Lineage, from the base", [" → ".join(found["lineage"] or [policy["policy_id"]])]
    if policy["parent"]:
        known = [
            f"{policy[name]} {word}"
            for name, word in (("n_examples", "examples"), ("n_steps", "steps"))
            if policy[name] is not None
        ]
        loss = policy["final_loss"]
        known += [] if loss is None else [f"final loss {loss:.3f}"]
        known += [f"adapter {policy['uri']}"] if policy["uri"] else []
        yield "Training", [", ".join(known)]
        yield (
            "Self-edits of its parent that were kept",
            [
                f"{row['self_edit_id']}  reward {_number(row['reward'])}"
                for row in found["learnt_from"]
            ],
        )
    yield (
        "What it wrote",
        [
            f"{row['n']} self-edits on {row['split']} problems, {row['n_unusable']} of no use: "
            f"mean reward {_number(row['mean_reward'])}, mean gain {_number(row['mean_gain'])}"
            for row in found["wrote"]
        ],
    )


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
