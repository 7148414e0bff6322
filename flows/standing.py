"""Where a run stands: each stage's shards that are done, taken over, failed, and left."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any, get_args

from pydantic import ValidationError

from flows.seal import heldout_evaluation, restem
from seal_core.config import Config
from seal_core.probe.verdict import Verdict
from seal_core.probe.verdict_files import recorded_verdict
from seal_core.types import Split
from storage.importing import is_imported
from storage.rows import RunRow
from storage.runs import get_run
from storage.status import StageStatus, in_flight, run_status, verdict_path
from storage.store import Store
from tasks.count import Count, CountedStage
from tasks.engines_used import EngineUse, engines_used, mixtures
from tasks.interpreter import declared
from tasks.results import has_result


@dataclass(frozen=True, kw_only=True)
class StageStanding(StageStatus):
    """One stage of a run; `done` are the shards that this run executed.

    Attributes:
        shards: In all; None if the run's config does not tell, as for imported results.
        cached: Shards taken over from another run.
    """

    shards: int | None = None
    cached: int = 0
    left: int = 0


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
    parts = {stage.table: store.part_paths(stage.table, name) for stage in declared().values()}
    stages = []
    for item in _counted(store, row):
        nothing = StageStatus(item.round_index, item.stage, item.label)
        line = begun.pop((item.round_index, item.label), nothing)
        stages.append(_standing(store, name, item.shards, line, parts))
    # What is left over are stages of which the config does not tell.
    stages += [StageStanding(**asdict(line)) for line in begun.values()]
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


def _counted(store: Store, row: RunRow) -> list[CountedStage]:
    if is_imported(row):
        return []
    recorded = json.loads(row.config_json)
    try:
        config = Config.model_validate(
            {k: v for k, v in recorded.items() if k in Config.model_fields}
        )
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


def _standing(
    store: Store, run: str, shards: int, line: StageStatus, parts: dict[str, set[str]]
) -> StageStanding:
    table = declared()[line.stage].table
    slots = (f"{line.label}/{shard}" for shard in range(shards))
    paths = {store.part_path(table, run, line.round_index, slot) for slot in slots}
    found = paths & parts[table]
    # Only shards with errors can be left though their part is there.
    present = sum(_counts(store, path) for path in found) if line.errors else len(found)
    done = min(line.done, present)
    given = {**asdict(line), "done": done}
    return StageStanding(**given, shards=shards, cached=present - done, left=shards - present)


def _counts(store: Store, path: str) -> bool:
    """Whether a part's shard is done: not if too many of its units failed."""
    key = store.identity_of(path)
    return bool(key) and has_result(store, key)
