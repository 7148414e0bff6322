"""Turns a stage's body into a cached Prefect task, and runs it over the shards of a stage."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

from prefect import Task, task
from prefect.context import TaskRunContext
from prefect.futures import PrefectFuture

from seal_core.errors import EngineError, InputError, SealError, StageError, what_next
from storage.runs.history import appending_executions
from tasks.cache import CacheEntry, look_up, restore_history
from tasks.context import RunContext, current
from tasks.executions import recorded
from tasks.gpu import hold_gpu
from tasks.model_note import note_model
from tasks.records import ShardRecords
from tasks.results import forget_result, write_result
from tasks.work import ShardResult, StageOutput, Work

_ENGINE_STAGES = frozenset({"sample", "finetune", "evaluate", "update"})
_LOCK_SECONDS = 1.0

Body = Callable[[RunContext, Work], StageOutput]


def stage_task(name: str, body: Body) -> Task[..., dict[str, Any]]:
    """A Prefect task that runs `body` on one shard and persists what it returns.

    The cache key is the digest of the shard's identity; the result is JSON and holds refs only.
    """

    def run_shard(work: dict[str, Any]) -> dict[str, Any]:
        return _execute(body, Work.from_json(work)).to_json()

    run_shard.__doc__ = body.__doc__
    return task(
        name=name,
        cache_key_fn=_cache_key,
        persist_result=True,
        result_serializer="json",
        retry_condition_fn=_engine_died,
        retry_delay_seconds=[1, 5, 20],
    )(run_shard)


def run_stage(stage: Task[..., dict[str, Any]], works: Sequence[Work]) -> list[ShardResult]:
    """Runs all shards of a stage, in their order; cached ones are verified, not repeated.

    Raises:
        StageError: a shard failed, or too many units did. What is done stays done.
    """
    context = current()
    entries = [look_up(context.store, work, context.name) for work in works]
    if context.planner is not None:
        return context.planner.plan(context.store, works, entries)
    _announce(context, works, entries)
    if stage.name in _ENGINE_STAGES and any(entry.result is None for entry in entries):
        hold_gpu(context)
    with appending_executions(context.store, context.name):
        results = _run_in_window(context, stage, works, entries)
    note_model(context)
    _check_errors(context, works, results)
    hits = sum(entry.result is not None for entry in entries)
    context.progress.finish(works[0].label if works else stage.name, hits, len(works))
    return results


def _run_in_window(
    context: RunContext,
    stage: Task[..., dict[str, Any]],
    works: Sequence[Work],
    entries: Sequence[CacheEntry],
) -> list[ShardResult]:
    """Keeps every engine busy without a thread for each of ten thousand shards."""
    window = 2 * context.config.execution.workers
    flight: deque[tuple[Work, CacheEntry, PrefectFuture[Any]]] = deque()
    results = []
    for work, entry in zip(works, entries, strict=True):
        if len(flight) == window:
            results.append(_result(context, *flight.popleft()))
        flight.append((work, entry, _submit(context, stage, work, entry)))
    results.extend(_result(context, *item) for item in flight)
    return results


def _announce(context: RunContext, works: Sequence[Work], entries: Sequence[CacheEntry]) -> None:
    if works:
        context.progress.stage(works[0].stage, works[0].label, len(works))
    for work, entry in zip(works, entries, strict=True):
        if damage := entry.damage:
            context.progress.note(f"{work.label} shard {work.shard}: {damage}; rebuilding")
    cached = [entry.result for entry in entries if entry.result is not None]
    for said in restore_history(context.store, cached, context.name):
        context.progress.note(said)


def _submit(
    context: RunContext, stage: Task[..., dict[str, Any]], work: Work, entry: CacheEntry
) -> PrefectFuture[Any]:
    configured = stage.with_options(
        task_run_name=f"{work.label} {work.shard}",
        refresh_cache=entry.result is None,
        retries=context.config.execution.shard_retries,
    )
    # Not an option: that takes blocks of the server alone, and the store knows no server.
    configured.result_storage = ShardRecords.of(context.store)
    return configured.submit(work.to_json())


def _result(
    context: RunContext, work: Work, entry: CacheEntry, future: PrefectFuture[Any]
) -> ShardResult:
    try:
        plain = future.result()
    except InputError:
        raise
    except (SealError, OSError) as error:
        message = f"{work.label}, shard {work.shard}: {error}{what_next(error)}"
        raise StageError(message) from error
    context.progress.advance()
    result = entry.result or ShardResult.from_json(plain)
    adopted = (
        context.store.adopt(ref, context.name, work.round_index, work.slot) for ref in result.refs
    )
    return replace(result, refs=tuple(adopted), work=work)


def _check_errors(
    context: RunContext, works: Sequence[Work], results: Sequence[ShardResult]
) -> None:
    units = sum(result.n_units for result in results)
    errors = sum(result.n_errors for result in results)
    limit = context.config.execution.max_error_share
    if not errors or errors <= limit * units:
        return
    for work, result in zip(works, results, strict=True):
        if result.n_errors:
            forget_result(context.store, work.key)
    raise StageError(
        f"{works[0].label}: {errors} of {units} units failed, more than "
        f'execution.max_error_share = {limit}. See `seal sql "SELECT * FROM errors"`; '
        "the shards with errors run again when you resume"
    )


def _cache_key(_: TaskRunContext, parameters: dict[str, Any]) -> str:
    return Work.from_json(parameters["work"]).key


def _engine_died(_task: Any, _run: Any, state: Any) -> bool:
    """Only a dead engine is worth another try: anything else would fail in the same way."""
    if current().stopping.is_set():
        return False
    try:
        state.result()
    except EngineError:
        return True
    except Exception:  # any other failure is final, and Prefect reports it
        return False
    return False


def _execute(body: Body, work: Work) -> ShardResult:
    """Runs a body under the shard's lock, so that two equal runs do each shard once.

    The record of the result is written under that lock too: whoever waits for it finds the result.
    """
    context = current()
    context.check_lease()
    with _shard_lock(context, work.key):
        done = look_up(context.store, work, context.name).result
        if done is not None:
            return done
        with recorded(context, work) as execution:
            execution.output = body(context, work)
            _check_model(context, work)
            execution.result = _persist(context, work, execution.output)
        write_result(context.store, work.key, execution.result.to_json())
        return execution.result


def _check_model(context: RunContext, work: Work) -> None:
    """Nothing is stored as another model's."""
    if work.identity["model"] is not None and context.model_files is not None:
        context.model_files.check()


@contextmanager
def _shard_lock(context: RunContext, key: str) -> Iterator[None]:
    """Waits for as long as another run works on the shard, but not beyond the end of this run."""
    with ExitStack() as stack:
        while not stack.enter_context(context.store.try_lock(f"shard-{key}", _LOCK_SECONDS)):
            if context.stopping.is_set():
                raise StageError("the run ended while another one worked on this shard")
        yield


def _persist(context: RunContext, work: Work, output: StageOutput) -> ShardResult:
    refs = tuple(
        context.store.write_part(
            table,
            rows,
            run=context.name,
            round_index=work.round_index,
            slot=work.slot,
            identity=work.key,
        )
        for table, rows in output.rows.items()
    )
    main = next(iter(output.rows.values()))
    errors = sum(getattr(row, "error", None) is not None for row in main)
    return ShardResult(refs, len(main), errors, key=work.key, identity=work.identity)
