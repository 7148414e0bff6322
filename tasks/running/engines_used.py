"""Tells which engines made what a run holds, taken over or not, and whether it mixes them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import get_args

from seal_core.errors import StoreError
from storage.store import Store
from storage.tables.paths import part_path, partition_of, same_file
from storage.tables.store_rows import StageRow
from tasks.caching.results import read_results
from tasks.opening.preflight import Preflight
from tasks.running.interpreter import declared
from tasks.stages.earlier import lineage
from tasks.work import Purpose, ShardResult, engine_of


@dataclass(frozen=True)
class EngineUse:
    """An engine that made some of a run's shards.

    Attributes:
        engine, version, precision: None if the execution did not record it.
    """

    purpose: Purpose
    engine: str | None
    version: str | None
    precision: str | None
    shards: int = 0

    def __str__(self) -> str:
        if self.engine is None:
            return "an engine that was not recorded"
        return f"{self.engine} {self.version} in {self.precision}"


def engines_used(store: Store, run: str) -> list[EngineUse]:
    """By purpose, the engines of a run's shards, the one with most shards first."""
    counts: Counter[EngineUse] = Counter()
    for row in _executions(store, run):
        purpose = declared()[row.stage].uses or "answers"
        counts[EngineUse(purpose, row.engine, row.engine_version, row.precision)] += 1
    found = [
        EngineUse(use.purpose, use.engine, use.version, use.precision, n)
        for use, n in counts.most_common()
    ]
    return sorted(found, key=lambda use: use.purpose)


def mixtures(uses: list[EngineUse]) -> list[str]:
    """One line for each purpose that several engines served."""
    lines = []
    for purpose in get_args(Purpose):
        of = [use for use in uses if use.purpose == purpose]
        if len(of) > 1:
            parts = ", ".join(f"{use} ({use.shards} shards)" for use in of)
            lines.append(f"{purpose} mix engines: {parts}")
    return lines


def tell_change(store: Store, checked: Preflight, note: Callable[[str], None]) -> None:
    """Says that a run goes on with another engine than it was begun with."""
    for use in engines_used(store, checked.name):
        engine, number = engine_of(use.purpose, checked.config, checked.engine_version)
        if (use.engine, use.version, use.precision) != (engine, number, checked.precision):
            note(
                f"{use.purpose} so far: {use} ({use.shards} shards); what is left is done by "
                f"{engine} {number} in {checked.precision}"
            )


def _executions(store: Store, run: str) -> Iterator[StageRow]:
    """The last good execution of each shard that a model worked on, taken-over ones too."""
    own: dict[str, StageRow] = {}
    stages = {name: stage for name, stage in declared().items() if stage.uses}
    rows = sorted(store.rows("stages", run), key=lambda item: item[1].started_at)
    for round_index, row in rows:
        if row.error is None and row.stage in stages:
            slot = f"{row.label}/{row.shard}"
            own[part_path(stages[row.stage].table, run, round_index, slot)] = row
    for path, row in own.items():
        yield row
        if row.n_reused and (made := _made_earlier(store, run, path)):
            yield made
    for stage in stages.values():
        for path in sorted(store.part_paths(stage.table, run) - own.keys()):
            if (row := _made(store, path)) is not None and row.stage == stage.name:
                yield row


def _made_earlier(store: Store, run: str, path: str) -> StageRow | None:
    """The execution whose units a shard took over, in a run that this one was forked from."""
    parents = (parent for parent in lineage(store, run) if parent != run)
    made = (_made(store, same_file(path, parent)) for parent in parents)
    return next((row for row in made if row), None)


def _made(store: Store, path: str) -> StageRow | None:
    """The execution that made a part which was taken over; None if that is not known."""
    key = store.identity_of(path)
    try:
        results = [ShardResult.from_json(own) for own in read_results(store, key)] if key else []
        result = next((own for own in results if _is_of(store, own, path)), None)
        made = result.execution if result else None
        return None if made is None else StageRow(**made.row)
    except (FileNotFoundError, StoreError, KeyError, TypeError, ValueError):
        return None


def _is_of(store: Store, result: ShardResult, path: str) -> bool:
    table = partition_of(path).table
    return any(
        store.verify_rows(replace(ref, path=path)) is None
        for ref in result.refs
        if ref.table == table
    )
