"""What a run has executed so far, by round and stage, from its stage executions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from storage.runs.history import executions
from storage.runs.registry import get_run
from storage.store import Store
from storage.tables.paths import check_run
from storage.tables.store_rows import StageRow


@dataclass(frozen=True)
class StageStatus:
    """One stage of one round.

    Attributes:
        label: The stage as the user sees it.
        shards: Shards that were executed to the end.
        failed: Shards whose every execution failed so far.
        killed: Executions that were killed.
        units, errors: Rows, and rows with an error, of the last good execution of each shard.
        seconds, tokens: Spent by all executions, the failed ones too.
        last_error: Of the shards that failed, the last execution's; None if none did.
    """

    round_index: int
    stage: str
    label: str
    shards: int
    failed: int
    killed: int
    units: int
    errors: int
    seconds: float
    tokens: int
    last_error: str | None


def run_status(store: Store, name: str) -> list[StageStatus]:
    """The stages of a run that were begun, in the order in which they were.

    Raises:
        InputError: there is no such run.
    """
    get_run(store, name)
    groups: dict[tuple[int, str, str], list[StageRow]] = {}
    for round_index, row in sorted(executions(store, name), key=lambda item: item[1].started_at):
        groups.setdefault((round_index, row.stage, row.label), []).append(row)
    return [_summary(*key, rows) for key, rows in groups.items()]


def verdict_folder(state_root: Path) -> Path:
    """Where verdicts on models are remembered for all runs of a store on this machine."""
    return state_root / "_state" / "verdicts"


def verdict_path(store: Store, name: str) -> Path:
    """Where it is recorded which verdict on its model a run had last."""
    return store.log_root / check_run(name) / "model.json"


def _summary(round_index: int, stage: str, label: str, rows: Sequence[StageRow]) -> StageStatus:
    done = {row.identity: row for row in rows if row.error is None}
    errors = [row.error for row in rows if row.identity not in done and row.ended_at is not None]
    return StageStatus(
        round_index=round_index,
        stage=stage,
        label=label,
        shards=len(done),
        failed=len({row.identity for row in rows} - done.keys()),
        killed=sum(row.ended_at is None for row in rows),
        units=sum(row.n_units for row in done.values()),
        errors=sum(row.n_errors for row in done.values()),
        seconds=sum(row.seconds or 0.0 for row in rows),
        tokens=sum(row.n_tokens for row in rows),
        last_error=errors[-1] if errors else None,
    )
