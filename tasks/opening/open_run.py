"""Opens a run that passed its preflight: brings its engines up, then claims its name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

from prefect.settings import PREFECT_TASKS_REFRESH_CACHE

from seal_core.domains.left_out import left_out_lines
from seal_core.engine_section import EngineSection
from seal_core.engines import Generator
from seal_core.kinds.chosen import make_engine
from seal_core.process.pool import EnginePool, PooledGenerator, PooledTrainer
from seal_core.process.spec import EngineSpec
from storage.runs.compaction import recover
from storage.runs.history import appending_executions, recover_executions
from storage.runs.leftovers import remove_leftovers
from storage.runs.status import verdict_folder, verdict_path
from storage.store import Store
from storage.tables.store_rows import RunRow
from tasks.context import PolicyTrainer, Progress, RunContext, use
from tasks.opening.claiming import Named, check_name, hold
from tasks.opening.model_trial import try_model
from tasks.opening.preflight import Preflight
from tasks.opening.proving import ProvenGenerator
from tasks.opening.scratch import run_scratch
from tasks.opening.serving import server_share, serving
from tasks.opening.signals import ended_once
from tasks.running.engines_used import engines_used, mixtures, tell_change
from tasks.running.run import Run
from tasks.stages.chatting import chat_settings
from tasks.stages.lora import all_targets


@dataclass(frozen=True)
class Engines:
    """What answers and trains.

    Attributes:
        try_model: Loads the model and raises `InputError` if it is refused, or lacks a target.
    """

    generator: Generator
    trainer: PolicyTrainer
    try_model: Callable[[], object]


OpenEngines = Callable[[Preflight, Store], AbstractContextManager[Engines]]


@contextmanager
def engine_processes(checked: Preflight, store: Store) -> Iterator[Engines]:
    """The configured engines, in processes of their own that end with the block."""
    execution = checked.config.execution
    log_dir = store.log_root / checked.name
    with EnginePool(execution.workers, _engine_spec(checked, store), log_dir) as pool:
        timeout = execution.shard_timeout
        trainer = PooledTrainer(pool, timeout)
        engine = make_engine(checked.config)
        if engine is None:
            # The model that was tried is the one that answers next.
            load = partial(pool.call, "open", {}, timeout)
            yield Engines(PooledGenerator(pool, timeout), trainer, load)
        else:
            with serving(
                engine, checked.config, checked.model_path, checked.precision, log_dir
            ) as generator:
                name, kind = checked.config.model.path, checked.config.engine.kind
                proven = ProvenGenerator(generator, pool, name, kind, timeout)
                yield Engines(proven, trainer, partial(pool.call, "try_model", {}, timeout))


@contextmanager
def open_run(
    checked: Preflight,
    progress: Progress,
    open_engines: OpenEngines = engine_processes,
    fork: str | None = None,
) -> Iterator[Run]:
    """Opens the run's engines, registers it, and makes it current for the tasks inside.

    A model that is refused leaves the name of a new run free, for the next try with another one.
    What earlier executions of the run left is recovered first: those that were killed get their
    row, damaged history is quarantined.

    Raises:
        InputError: the store is not writable, or the name belongs to another config, or the run
            is being executed by another process, or its model is refused.
    """
    config = checked.config
    named = check_name(checked, fork, progress.note)
    store, checked = named.store, named.checked
    for line in left_out_lines(checked.problems.left_out):
        progress.note(line)
    for advice in checked.advice:
        progress.advise(advice)
    with (
        ended_once(inside=True),
        hold(store, checked.name) as lease,
        run_scratch(store, checked.name) as scratch,
        ExitStack() as after_engines,
        open_engines(checked, store) as engines,
    ):
        context = RunContext(
            name=checked.name,
            config=config,
            model_path=checked.model_path,
            model_digest=checked.model_digest,
            model_files=checked.files,
            domain=checked.domain,
            store=store,
            generator=engines.generator,
            trainer=engines.trainer,
            progress=progress,
            precision=checked.precision,
            refresh=PREFECT_TASKS_REFRESH_CACHE.value(),
            engine_version=checked.engine_version,
            after_engines=after_engines,
            scratch=scratch,
            lease=lease,
        )
        row = _claim(named, context, engines)
        context.resumed = _recover(store, checked.name, progress)
        _tell_engines(context, checked)
        after_engines.enter_context(appending_executions(store, checked.name, last=True))
        try:
            with use(context):
                run = Run(context, checked, row.shard_size)
                run.keep_notes()
                yield run
        finally:
            context.stopping.set()
        for line in mixtures(engines_used(store, checked.name)):
            progress.note(line)


def _tell_engines(context: RunContext, checked: Preflight) -> None:
    """Says what cannot be asked of servers, and which engine a resumed run goes on with."""
    section = context.config.engine
    if isinstance(section, EngineSection) and section.servers:
        context.progress.note(
            f"this run's precision is {checked.precision}; its servers cannot be asked for "
            f"theirs and must have been started with --dtype {checked.precision}"
        )
    if context.resumed:
        tell_change(context.store, checked, context.progress.note)


def _claim(named: Named, context: RunContext, engines: Engines) -> RunRow:
    """Registers the run, a new one once its model can be used."""
    if named.is_new:
        try_model(context, named.checked, engines.try_model)
    # Loading a model, and waiting for a GPU, may have taken long.
    context.check_lease()
    return named.register(context.progress.note)


def _recover(store: Store, run: str, progress: Progress) -> bool:
    """Recovers what earlier executions left; whether there were any."""
    recover(store, run, progress.note)
    if n_killed := recover_executions(store, run, progress.note):
        progress.note(f"{n_killed} shards were in flight when the run was ended; they run again")
    remove_leftovers(store, run)
    return bool(store.files.glob(f"stages/run={run}/round=*/part-*.parquet"))


def _engine_spec(checked: Preflight, store: Store) -> EngineSpec:
    execution = checked.config.execution
    return EngineSpec(
        model_path=checked.model_path,
        device=execution.device,
        dtype=checked.precision,
        threads=execution.threads,
        max_batch_tokens=execution.max_batch_tokens,
        trainer=checked.config.trainer.model_dump(mode="json"),
        targets=all_targets(checked.config),
        fill_rows=checked.config.finetune.published,
        chat=chat_settings(checked.config),
        chats=checked.config.uses_chat,
        files=checked.files,
        verdicts=str(verdict_folder(store.state_root)),
        verdict_record=str(verdict_path(store, checked.name)),
        memory_bytes=None if execution.memory_gb is None else int(execution.memory_gb * 2**30),
        server_share=server_share(checked.config),
        sharers=execution.workers,
    )
