"""Records each execution of a shard: when, where, how long, how much, and how it ended."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version

import prefect.runtime.task_run as task_run

from seal_core.fingerprint import canonical_json, digest
from storage.rows import StageRow
from tasks.context import RunContext
from tasks.work import ShardResult, StageOutput, Work

_RECORDED_VERSIONS = ("seal-pipeline", "torch", "transformers", "peft", "trl", "prefect")


class Execution:
    """One execution under way; the body's outcome is put into `output` and `result`."""

    def __init__(self) -> None:
        self.output: StageOutput | None = None
        self.result: ShardResult | None = None


@contextmanager
def recorded(context: RunContext, work: Work) -> Iterator[Execution]:
    """Writes one row of the `stages` table when the block ends, also when it ends in an error."""
    execution, started, clock = Execution(), datetime.now(UTC), time.perf_counter()
    error: str | None = None
    try:
        yield execution
    except BaseException as raised:
        error = f"{type(raised).__name__}: {raised}"
        raise
    finally:
        row = _row(context, work, execution, started, time.perf_counter() - clock, error)
        context.store.write_part(
            "stages",
            [row],
            run=context.name,
            round_index=work.round_index,
            identity=digest([work.key, row.started_at, row.pid, row.attempt]),
        )


def _row(
    context: RunContext,
    work: Work,
    execution: Execution,
    started: datetime,
    seconds: float,
    error: str | None,
) -> StageRow:
    result, output = execution.result, execution.output
    return StageRow(
        stage=work.stage,
        label=work.label,
        identity=work.key,
        shard=work.shard,
        started_at=started.isoformat(timespec="milliseconds"),
        seconds=seconds,
        n_units=result.n_units if result else 0,
        n_errors=result.n_errors if result else 0,
        n_tokens=output.n_tokens if output else 0,
        device=context.config.execution.device,
        host=platform.node(),
        pid=os.getpid(),
        attempt=task_run.run_count or 1,
        versions=canonical_json(_versions()),
        error=error,
    )


@cache
def _versions() -> dict[str, str]:
    return {name: version(name) for name in _RECORDED_VERSIONS}
