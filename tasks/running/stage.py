"""Runs the shards of a stage as Prefect tasks; Prefect's cache decides which are executed."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from typing import Any, NamedTuple

from prefect import Task, task
from prefect.cache_policies import CacheKeyFnPolicy
from prefect.context import TaskRunContext
from prefect.futures import PrefectFuture
from prefect.transactions import IsolationLevel

from seal_core.errors import EngineError, InputError, SealError, StageError, what_next
from storage.runs.history import appending_executions
from tasks.caching.cache import restore_history
from tasks.caching.executions import recorded
from tasks.caching.records import ShardLock, ShardRecords
from tasks.caching.results import refuse_result, write_result
from tasks.context import RunContext, current
from tasks.running.gpu import await_gpu, hold_gpu_if_wanted
from tasks.work import ShardResult, Stage, StageOutput, Work

Flight = deque[tuple[Work, PrefectFuture[Any]]]
_END_SECONDS = 5.0


class Shards(NamedTuple):
    """What became of a stage's shards.

    Attributes:
        results: In the order of the works; their parts are in the run's own partition.
        cached: How many Prefect's cache had.
    """

    results: tuple[ShardResult, ...]
    cached: int


def run_shards(
    context: RunContext, stage: Stage, works: Sequence[Work], *, with_weights: bool = False
) -> Shards:
    """Runs all shards of a stage; those in the cache are verified, not repeated.

    Args:
        with_weights: A shard whose weights were removed on purpose is repeated too.

    Raises:
        StageError: a shard failed, or too many units did. What is done stays done.
    """
    # Keeps every engine busy without a thread for each of ten thousand shards.
    window = 2 * context.config.execution.workers
    flight: Flight = deque()
    ended = []
    with appending_executions(context.store, context.name), _awaited(context, flight):
        for work in works:
            if len(flight) == window:
                ended.append(_result(context, *flight[0]))
                flight.popleft()
            flight.append((work, _submit(context, stage, work, with_weights)))
        ended.extend(_result(context, *item) for item in flight)
    found = [result for result, cached in ended if cached]
    for said in restore_history(context.store, found, context.name):
        context.progress.note(said)
    results = tuple(result for result, _ in ended)
    _check_errors(context, works, results)
    return Shards(results, sum(cached for _, cached in ended))


@contextmanager
def _awaited(context: RunContext, flight: Flight) -> Iterator[None]:
    """After an error, keeps the run's lock until the engines have ended, and for `_END_SECONDS`
    what is in flight."""
    try:
        yield
    except BaseException:
        left = [future for _, future in flight]
        context.after_engines.callback(_await_end, left)
        raise


def _await_end(futures: Sequence[PrefectFuture[Any]]) -> None:
    last = time.monotonic() + _END_SECONDS
    for future in futures:
        _end_of(future).wait(max(0.0, last - time.monotonic()))


def _end_of(future: PrefectFuture[Any]) -> threading.Event:
    ended = threading.Event()
    future.add_done_callback(lambda _: ended.set())
    return ended


@cache
def _task_of(stage: Stage) -> Task[..., dict[str, Any]]:
    """A Prefect task that runs a stage's body on one shard, and returns refs as plain JSON."""

    def run_shard(work: dict[str, Any]) -> dict[str, Any]:
        return _execute(stage, Work.from_json(work)).to_json()

    run_shard.__doc__ = stage.body.__doc__
    return task(
        name=stage.name,
        persist_result=True,
        result_serializer="json",
        cache_result_in_memory=False,
        retry_condition_fn=_engine_died,
        retry_delay_seconds=[1, 5, 20],
    )(run_shard)


def _submit(
    context: RunContext, stage: Stage, work: Work, with_weights: bool
) -> PrefectFuture[Any]:
    miss = partial(await_gpu, context) if stage.uses else lambda: None
    lock = ShardLock(context, work, with_weights=with_weights, miss=miss)
    policy = CacheKeyFnPolicy(
        cache_key_fn=_cache_key, lock_manager=lock, isolation_level=IsolationLevel.SERIALIZABLE
    )
    configured = _task_of(stage).with_options(
        task_run_name=f"{work.label} {work.shard}",
        cache_policy=policy,
        refresh_cache=context.refresh,
        retries=context.config.execution.shard_retries,
    )
    # Not an option: that takes blocks of the server alone, and the store knows no server.
    configured.result_storage = ShardRecords.under(lock)
    return configured.submit(work.to_json())


def _result(
    context: RunContext, work: Work, future: PrefectFuture[Any]
) -> tuple[ShardResult, bool]:
    """A shard's result, and whether it was cached."""
    hold_gpu_if_wanted(context, _end_of(future))
    try:
        plain = future.result()
    except InputError:
        raise
    except (SealError, OSError) as error:
        message = f"{work.label}, shard {work.shard}: {error}{what_next(error)}"
        raise StageError(message) from error
    context.progress.advance()
    result = ShardResult.from_json(plain)
    adopted = (
        context.store.adopt(ref, context.name, work.round_index, work.slot) for ref in result.refs
    )
    return replace(result, refs=tuple(adopted)), future.state.name == "Cached"


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
            refuse_result(context.store, work.key, context.name)
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


def _execute(stage: Stage, work: Work) -> ShardResult:
    """Runs a body; Prefect holds the shard's lock.

    The record of the result is written under that lock too: whoever waits for it finds the result.
    """
    context = current()
    context.check_lease()
    with recorded(context, stage, work) as execution:
        execution.output = stage.body(context, work)
        _check_model(context, work)
        context.check_lease()
        execution.result = _persist(context, work, execution.output)
    write_result(context.store, work.key, execution.result.to_json())
    return execution.result


def _check_model(context: RunContext, work: Work) -> None:
    """Nothing is stored as another model's."""
    if work.identity["model"] is not None and context.model_files is not None:
        context.model_files.check()


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
