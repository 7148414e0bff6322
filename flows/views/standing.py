"""Where a run stands: each stage's shards that are done, taken over, failed, and left."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, get_args

from pydantic import ValidationError

from flows.seal import heldout_evaluation, restem
from seal_core.config import Config
from seal_core.errors import StoreError
from seal_core.probe.verdict import Verdict
from seal_core.probe.verdict_files import recorded_verdict
from seal_core.types import Split
from storage.runs.history import executions, in_flight
from storage.runs.importing import is_imported
from storage.runs.registry import get_run
from storage.runs.status import verdict_path
from storage.store import Store
from storage.tables.paths import part_path
from storage.tables.store_rows import RunRow, StageRow
from tasks.caching.results import has_result
from tasks.running.count import Count, CountedStage
from tasks.running.engines_used import EngineUse, engines_used, mixtures
from tasks.running.interpreter import declared


@dataclass(frozen=True)
class StageStanding:
    """One stage of a run.

    Attributes:
        label: The stage as the user sees it.
        shards: In all; None if the run's config does not tell, as for imported results.
        done: Shards that this run executed.
        cached: Shards taken over from another run.
        failed: Shards whose every execution failed so far.
        killed: Executions that were stopped or killed; their shards are done again, or left.
        units, errors: Rows, and rows with an error, of the last good execution of each shard.
        seconds, tokens: Spent by all executions, the failed ones too; of all workers together.
        wall: Seconds in which at least one execution was at work.
        last_error: Of the shards that failed, the last execution's; None if none did.
    """

    round_index: int
    stage: str
    label: str
    shards: int | None
    done: int
    cached: int
    failed: int
    killed: int
    left: int
    units: int
    errors: int
    seconds: float
    wall: float
    tokens: int
    last_error: str | None


@dataclass(frozen=True)
class RunStanding:
    """A run and its stages; `in_flight` shards are at work now, or were when it was killed.

    Attributes:
        model: How its model was used last on this machine; None if that is not known.
        engines: What made its shards, those taken over from other runs too.
    """

    run: str
    created_at: str
    parent_run: str | None
    imported: bool
    in_flight: int
    model: Verdict | None
    engines: list[EngineUse]
    stages: list[StageStanding]

    @property
    def left(self) -> int | None:
        """Shards that a resumed run would execute; None if that is not known.

        As long as a run has stored no problems it has done nothing, and a config of an older
        version may not tell its stages.
        """
        if not self.imported and all(stage.shards is None for stage in self.stages):
            return None
        return sum(stage.left for stage in self.stages)

    def to_json(self) -> dict[str, Any]:
        """What `seal status --json` prints for the run."""
        return {**asdict(self), "left": self.left, "mixed": mixtures(self.engines)}


def run_standing(store: Store, name: str) -> RunStanding:
    """Reads where a run stands.

    Raises:
        InputError: there is no such run.
    """
    row = get_run(store, name)
    begun: dict[CountedStage, list[StageRow]] = {}
    for index, done in sorted(executions(store, name), key=lambda item: item[1].started_at):
        begun.setdefault(CountedStage(done.stage, done.label, index, 0), []).append(done)
    parts = {stage.table: store.part_paths(stage.table, name) for stage in declared().values()}
    stages = []
    for item in _counted(store, row):
        rows = begun.pop(replace(item, shards=0), [])
        stages.append(_standing(item, rows, _present(store, name, item, rows, parts)))
    # What is left over are stages of which the config does not tell.
    stages += [_standing(item, rows, None) for item, rows in begun.items()]
    return RunStanding(
        run=name,
        created_at=row.created_at,
        parent_run=row.parent_run,
        imported=is_imported(row),
        in_flight=in_flight(store, name),
        model=recorded_verdict(verdict_path(store, name)),
        engines=engines_used(store, name),
        stages=stages,
    )


def shards_left(store: Store, name: str) -> int | None:
    """Shards that a run has yet to do; None if that is not known, or something is damaged."""
    try:
        return run_standing(store, name).left
    except StoreError:
        return None  # `seal status` says what is damaged.


def unfinished(name: str, left: int | None) -> list[str]:
    """The line that says so, if it is."""
    return [f"{name} is not finished, shards left: {left} (`seal status {name}`)"] if left else []


def _counted(store: Store, row: RunRow) -> list[CountedStage]:
    if is_imported(row):
        return []
    recorded = json.loads(row.config_json)
    plain = {k: v for k, v in recorded.items() if k in Config.model_fields}
    try:
        config = Config.model_validate(plain)
    except ValidationError:
        return []
    problems = Counter(problem.split for _, problem in store.rows("problems", row.run))
    if not problems:
        return []
    count = Count({split: -(-problems[split] // row.shard_size) for split in get_args(Split)})
    if (measured := recorded.get("evaluates")) is not None:
        heldout_evaluation(count, config, count.base_policy(), measured["round"])
    else:
        restem(count, config)
    return count.stages


def wall_seconds(rows: Iterable[StageRow]) -> float:
    """Seconds in which at least one of these executions was at work; killed ones do not tell."""
    spans = sorted(
        (datetime.fromisoformat(row.started_at), datetime.fromisoformat(row.ended_at))
        for row in rows
        if row.ended_at is not None
    )
    total, last = 0.0, None
    for start, end in spans:
        begin = start if last is None else max(start, last)
        total += max(0.0, (end - begin).total_seconds())
        last = end if last is None else max(last, end)
    return total


def _present(
    store: Store,
    run: str,
    item: CountedStage,
    rows: Sequence[StageRow],
    parts: dict[str, set[str]],
) -> int:
    """Shards that are done, by this run or another."""
    table = declared()[item.stage].table
    slots = (f"{item.label}/{shard}" for shard in range(item.shards))
    found = parts[table] & {part_path(table, run, item.round_index, slot) for slot in slots}
    # A shard can be left though its file is there: too many of its units failed for this run.
    keys = (store.identity_of(path) for path in found)
    return sum(bool(key) and has_result(store, key, run) for key in keys)


def _standing(item: CountedStage, rows: Sequence[StageRow], present: int | None) -> StageStanding:
    """`present` is None for a stage of which the config does not tell."""
    good = {row.identity: row for row in rows if row.error is None}
    errors = [row.error for row in rows if row.identity not in good and row.ended_at is not None]
    done = len(good) if present is None else min(len(good), present)
    return StageStanding(
        round_index=item.round_index,
        stage=item.stage,
        label=item.label,
        shards=None if present is None else item.shards,
        done=done,
        cached=0 if present is None else present - done,
        failed=len({row.identity for row in rows if row.ended_at is not None} - good.keys()),
        killed=sum(row.ended_at is None for row in rows),
        left=0 if present is None else item.shards - present,
        units=sum(row.n_units for row in good.values()),
        errors=sum(row.n_errors for row in good.values()),
        seconds=sum(row.seconds or 0.0 for row in rows),
        wall=wall_seconds(rows),
        tokens=sum(row.n_tokens for row in rows),
        last_error=errors[-1] if errors else None,
    )
