"""Where a run stands: each stage's shards that are done, taken over, failed, and left."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import ValidationError

from flows.expected import ExpectedStage, expected_evaluation, expected_stages
from seal_core.config import Config
from seal_core.probe.verdict import Verdict
from seal_core.probe.verdict_files import recorded_verdict
from storage.runs.history import in_flight
from storage.runs.importing import is_imported
from storage.runs.registry import get_run
from storage.runs.status import StageStatus, run_status, verdict_path
from storage.store import Store
from storage.tables.store_rows import RunRow
from tasks.engines_used import EngineUse, engines_used, mixtures
from tasks.results import has_result
from tasks.work import OUTPUTS


@dataclass(frozen=True)
class StageStanding:
    """One stage of a run.

    Attributes:
        shards: In all; None if the run's config does not tell, as for imported results.
        done: Shards that this run executed.
        cached: Shards taken over from another run.
        failed: Shards whose every execution failed so far.
        killed: Executions that were killed; their shards are done again, or left.
        last_error: Of the shards that failed; None if none did.
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
    begun = {(line.round_index, line.label): line for line in run_status(store, name)}
    expected = _expected(store, row)
    parts = {table: store.part_paths(table, name) for (table,) in OUTPUTS.values()}
    stages = [_standing(store, name, item, begun, parts) for item in expected]
    known = {(item.round_index, item.label) for item in expected}
    stages += [_executed(line) for key, line in begun.items() if key not in known]
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


def _expected(store: Store, row: RunRow) -> list[ExpectedStage]:
    if is_imported(row):
        return []
    recorded = json.loads(row.config_json)
    plain = {k: v for k, v in recorded.items() if k in Config.model_fields}
    try:
        config = Config.model_validate(plain)
    except ValidationError:
        return []
    splits = [problem.split for _, problem in store.rows("problems", row.run)]
    train, heldout = (-(-splits.count(s) // row.shard_size) for s in ("train", "heldout"))
    if not splits:
        return []
    if (measured := recorded.get("evaluates")) is not None:
        return expected_evaluation(measured["round"], heldout)
    return expected_stages(config, train, heldout)


def _standing(
    store: Store,
    run: str,
    item: ExpectedStage,
    begun: dict[tuple[int, str], StageStatus],
    parts: dict[str, set[str]],
) -> StageStanding:
    (table,) = OUTPUTS[item.stage]
    slots = (f"{item.label}/{shard}" for shard in range(item.shards))
    paths = {store.part_path(table, run, item.round_index, slot) for slot in slots}
    line = begun.get((item.round_index, item.label))
    found = paths & parts[table]
    # Only shards with errors can be left though their part is there.
    present = sum(_counts(store, path) for path in found) if line and line.errors else len(found)
    done = min(line.shards, present) if line else 0
    return StageStanding(
        round_index=item.round_index,
        stage=item.stage,
        label=item.label,
        shards=item.shards,
        done=done,
        cached=present - done,
        failed=line.failed if line else 0,
        killed=line.killed if line else 0,
        left=item.shards - present,
        units=line.units if line else 0,
        errors=line.errors if line else 0,
        seconds=line.seconds if line else 0.0,
        tokens=line.tokens if line else 0,
        last_error=line.last_error if line else None,
    )


def _counts(store: Store, path: str) -> bool:
    """Whether a part's shard is done: not if too many of its units failed."""
    key = store.identity_of(path)
    return bool(key) and has_result(store, key)


def _executed(line: StageStatus) -> StageStanding:
    """A stage of which the config does not tell."""
    plain = asdict(line)
    done = plain.pop("shards")
    return StageStanding(**plain, shards=None, done=done, cached=0, left=0)
