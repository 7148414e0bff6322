"""The run that tasks work for: its store, config, engines and progress, found by context."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from seal_core.config import Config
from seal_core.domains.base import Domain
from seal_core.engines import Generator, LoraSettings, TrainedAdapter, Trainer
from seal_core.errors import StageError
from seal_core.models.files.model_digest import ModelFiles
from seal_core.types import Advice, TrainRow
from storage.runs.leases import Lease
from storage.store import Store


class Progress(Protocol):
    """Where the work's progress is shown; see `flows.progress` for the terminal's bars."""

    def expect(self, shards: Mapping[str, int]) -> None:
        """Shards of the whole run by stage, for the estimate of the time left."""
        ...

    def stage(self, stage: str, label: str, shards: int) -> None:
        """A stage begins."""
        ...

    def advance(self) -> None:
        """One more shard of the current stage is done."""
        ...

    def begin(self, units: str, n: int) -> Callable[[int], None]:
        """`n` units of a shard begin, e.g. `answers`; what is returned is told of those done.

        Threads of several shards call both.
        """
        ...

    def finish(self, label: str, cached: int, shards: int) -> None:
        """The stage ended; `cached` of its `shards` were already in the store."""
        ...

    def note(self, message: str) -> None:
        """Something the user should know, one line."""
        ...

    def advise(self, advice: Advice) -> None:
        """Something in the set-up that looks like a mistake."""
        ...


class PolicyTrainer(Trainer, Protocol):
    """A trainer that can also make the next policy."""

    def update_policy(
        self,
        examples: Sequence[TrainRow],
        settings: LoraSettings,
        seed: int,
        out: Path,
        parent_adapter: str | None = None,
    ) -> TrainedAdapter:
        """Supervised fine-tuning on prompt and kept self-edit; see `policy_sft.update_policy`."""
        ...


@dataclass
class RunContext:
    """Everything a task needs that is not part of its identity.

    Prefect hashes and stores task parameters, so engines and the store are found here instead.

    Attributes:
        precision: Of the model, in all that it does.
        engine_version: Of the library that answers.
        resumed: Whether the run was there before, so that what is missing was lost.
        refresh: Whether everything is to be made again, as `PREFECT_TASKS_REFRESH_CACHE` says.
        stopping: Set when the run ends, for whatever reason.
        after_engines: Closed when the engines have ended.
        scratch: Folder of this machine for what is on its way into the store; None is any.
        lease: The run's, among machines; None in a folder.
        wants_gpu, holds_gpu: Set when a task needs the run's slot of the server's limit, and when
            the run has it; see `tasks.running.gpu`.
        model_noted: Whether the user was told how the model is used; see
            `tasks.opening.model_note`.
        model_files: The model's files, which may not change while the run works.
    """

    name: str
    config: Config
    model_path: str
    model_digest: str
    domain: Domain
    store: Store
    generator: Generator
    trainer: PolicyTrainer
    progress: Progress
    precision: str = ""
    engine_version: str = ""
    stopping: threading.Event = field(default_factory=threading.Event)
    refresh: bool = False
    resumed: bool = False
    after_engines: ExitStack = field(default_factory=ExitStack)
    scratch: Path | None = None
    lease: Lease | None = None
    wants_gpu: threading.Event = field(default_factory=threading.Event)
    holds_gpu: threading.Event = field(default_factory=threading.Event)
    model_noted: bool = False
    model_files: ModelFiles | None = None

    def check_lease(self) -> None:
        """Passes while no other machine executes the run.

        Raises:
            StageError: one has taken it over.
        """
        if self.lease is not None and self.lease.lost.is_set():
            raise StageError(
                f"the store was out of reach for so long that another machine has taken run "
                f"{self.name!r} over; it goes on there"
            )


_current: ContextVar[RunContext | None] = ContextVar("seal_run", default=None)


def current() -> RunContext:
    """The run of this task.

    Raises:
        RuntimeError: outside of `use`; tasks only make sense inside a SEAL flow.
    """
    context = _current.get()
    if context is None:
        raise RuntimeError("no SEAL run is active: call SEAL tasks from the `seal` flow")
    return context


@contextmanager
def use(context: RunContext) -> Iterator[RunContext]:
    """Makes a run current; Prefect copies it into the threads of its tasks."""
    token = _current.set(context)
    try:
        yield context
    finally:
        _current.reset(token)
