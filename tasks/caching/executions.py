"""Records each execution of a shard: when, where, how long, how much, and how it ended."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version

import prefect.runtime.task_run as task_run

from seal_core.fingerprint import canonical_json
from storage.runs.history import STOPPED, begin_execution, end_execution
from storage.tables.store_rows import StageRow
from tasks.context import RunContext
from tasks.work import MadeBy, ShardResult, Stage, StageOutput, Work, engine_of

_RECORDED_VERSIONS = ("seal-pipeline", "torch", "transformers", "peft", "trl", "prefect")


class Execution:
    """One execution under way; the body's outcome is put into `output` and `result`."""

    def __init__(self) -> None:
        self.output: StageOutput | None = None
        self.result: ShardResult | None = None


@contextmanager
def recorded(context: RunContext, stage: Stage, work: Work) -> Iterator[Execution]:
    """Notes the execution while it runs, and how it ended, also when it ends in an error.

    The stage appends the notes to the `stages` table; from one that did not end, the next start of
    the run learns that it was killed. A result that the block leaves gets the row too.
    """
    execution, clock = Execution(), time.perf_counter()
    begun = _begun(context, stage, work)
    note = begin_execution(context.store, context.name, work.round_index, begun)
    error: str | None = None
    try:
        yield execution
    except BaseException as raised:
        error = f"{type(raised).__name__}: {raised}"
        raise
    finally:
        row = _ended(begun, execution, time.perf_counter() - clock, error)
        if error is not None and context.stopping.is_set():
            # What the engines say then is that they were ended, which is no fault of theirs.
            row = replace(row, ended_at=None, error=STOPPED)
        end_execution(context.store, work.round_index, row, note)
        if execution.result is not None:
            made = MadeBy(context.name, work.round_index, asdict(row))
            execution.result = replace(execution.result, execution=made)


def _begun(context: RunContext, stage: Stage, work: Work) -> StageRow:
    """The row as it is known before the work."""
    engine, engine_version = _engine(context, stage)
    return StageRow(
        stage=work.stage,
        label=work.label,
        identity=work.key,
        shard=work.shard,
        started_at=_now(),
        ended_at=None,
        seconds=None,
        n_units=0,
        n_errors=0,
        n_tokens=0,
        device=context.config.execution.device,
        host=platform.node(),
        pid=os.getpid(),
        attempt=task_run.run_count or 1,
        versions=canonical_json(_versions()),
        error=None,
        engine=engine,
        engine_version=engine_version,
        precision=context.precision if stage.uses else None,
    )


def _engine(context: RunContext, stage: Stage) -> tuple[str | None, str | None]:
    """What computed with the model, and its version; nothing for stages that do without one."""
    if stage.uses is None:
        return None, None
    return engine_of(stage.uses, context.config, context.engine_version)


def _ended(begun: StageRow, execution: Execution, seconds: float, error: str | None) -> StageRow:
    result, output = execution.result, execution.output
    return replace(
        begun,
        ended_at=_now(),
        seconds=seconds,
        n_units=result.n_units if result else 0,
        n_errors=result.n_errors if result else 0,
        n_tokens=output.n_tokens if output else 0,
        n_reused=output.n_reused if output else 0,
        error=error,
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@cache
def _versions() -> dict[str, str]:
    return {name: version(name) for name in _RECORDED_VERSIONS}
