"""Opens a run: checks all input before anything is written, then brings store and engines up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from seal_core.config import EMBEDDED, Config
from seal_core.domains.base import Domain, ProblemSet
from seal_core.domains.knowledge import KnowledgeDomain
from seal_core.engines.base import Generator
from seal_core.engines.model_files import check_model_folder, model_digest
from seal_core.engines.pool import EnginePool, PooledGenerator, PooledTrainer
from seal_core.engines.spec import EngineSpec
from seal_core.errors import InputError
from seal_core.minilm import weights_path
from storage.rows import RunRow
from storage.runs import register_run
from storage.store import Store
from tasks.context import PolicyTrainer, Progress, RunContext, use
from tasks.shards import Shard, store_shards


@dataclass(frozen=True)
class Preflight:
    """What is known of a run before its first write; every check on the input has passed."""

    name: str
    config: Config
    model_path: str
    domain: Domain
    problems: ProblemSet


@dataclass(frozen=True)
class OpenRun:
    """A run ready to work: the context is current, the problems are stored."""

    context: RunContext
    train: list[Shard]
    heldout: list[Shard]


def preflight(config: Config, name: str | None) -> Preflight:
    """Checks name, data, prompts, grader and model folder; reads, but writes nothing.

    Raises:
        InputError: naming the thing and the fix.
    """
    run = name or config.run.name
    if not run:
        raise InputError("the run has no name: pass --name, or set run.name in the config")
    domain = KnowledgeDomain.from_config(config)
    path = str(weights_path()) if config.model.path == EMBEDDED else config.model.path
    check_model_folder(path)
    return Preflight(run, config, path, domain, domain.load())


def register(checked: Preflight) -> tuple[Store, RunRow]:
    """Opens the store and claims the run's name for its config; the first write of a run.

    Raises:
        InputError: the store is not writable, or the name belongs to another config.
    """
    config = checked.config
    store = Store.open(config.execution.store)
    size = config.execution.shard_size
    return store, register_run(store, checked.name, config.identity(), size)


Engines = tuple[Generator, PolicyTrainer]
OpenEngines = Callable[[Preflight, Store], AbstractContextManager[Engines]]


@contextmanager
def engine_processes(checked: Preflight, store: Store) -> Iterator[Engines]:
    """The configured engines, in processes of their own that end with the block."""
    execution = checked.config.execution
    log_dir = store.log_root / checked.name
    with EnginePool(execution.workers, _engine_spec(checked), log_dir) as pool:
        timeout = execution.shard_timeout
        yield PooledGenerator(pool, timeout), PooledTrainer(pool, timeout)


@contextmanager
def open_run(
    checked: Preflight, progress: Progress, open_engines: OpenEngines = engine_processes
) -> Iterator[OpenRun]:
    """Registers the run, opens its engines, and makes it current for the tasks inside.

    Raises:
        InputError: the store is not writable, or the name belongs to another config, or the run
            is being executed by another process.
    """
    config = checked.config
    store, row = register(checked)
    with store.lock(
        f"run-{checked.name}",
        timeout=0,
        busy=f"run {checked.name!r} is being "
        "executed by another process: wait for it, or choose another --name",
    ):
        digest = model_digest(
            checked.model_path, config.model.revision, cache_path=store.result_root / "models.json"
        )
        with open_engines(checked, store) as (generator, trainer):
            context = RunContext(
                name=checked.name,
                config=config,
                model_path=checked.model_path,
                model_digest=digest,
                domain=checked.domain,
                store=store,
                generator=generator,
                trainer=trainer,
                progress=progress,
            )
            try:
                with use(context):
                    train, heldout = (
                        store_shards(store, checked.name, group, row.shard_size)
                        for group in (checked.problems.train, checked.problems.heldout)
                    )
                    yield OpenRun(context, train, heldout)
            finally:
                context.stopping.set()


def _engine_spec(checked: Preflight) -> EngineSpec:
    execution = checked.config.execution
    return EngineSpec(
        kind=execution.engine,
        model_path=checked.model_path,
        revision=checked.config.model.revision,
        device=execution.device,
        dtype=execution.dtype,
        threads=execution.threads,
        max_batch_tokens=execution.max_batch_tokens,
        trainer=execution.trainer,
    )
