"""Progress: one line per stage, and in between how far it is; on a terminal as a bar."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from prefect.logging import get_run_logger
from prefect.runtime import deployment
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from flows.time_left import TimeLeft
from seal_core.types import Advice

TELL_SECONDS = 30.0
"""The longest silence of a log while a stage is at work."""
_TURN_SECONDS = 1.0


@dataclass(frozen=True)
class StageDone:
    """A stage that ended.

    Attributes:
        cached: Of its `shards`, those that were in the store already.
    """

    label: str
    cached: int
    shards: int
    seconds: float


@dataclass
class _Stage:
    """A stage at work.

    Attributes:
        units: What its shards make, e.g. `answers`; `begun` and `made` count them.
    """

    name: str
    label: str
    shards: int
    since: float
    shards_done: int = 0
    units: str = ""
    begun: int = 0
    made: int = 0

    def told(self, left: float | None) -> str:
        """How far it is, as a line."""
        seconds = time.monotonic() - self.since
        parts = [f"{self.shards_done} of {self.shards} shards"]
        if self.begun:
            rate = f" ({self.made / seconds:.3g} per s)" if self.made and seconds else ""
            parts.append(f"{self.made} of {self.begun} {self.units}{rate}")
        parts.append(f"{_duration(seconds)} so far")
        if left is not None:
            parts.append(f"about {_duration(max(0.0, left - seconds))} left of the run")
        return f"{self.label}: {', '.join(parts)}"


class PlainProgress:
    """One line when a stage ends, and one whenever `TELL_SECONDS` were silent; for files, pipes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lock = threading.Lock()
        self._at: _Stage | None = None
        self._spoke = time.monotonic()
        self.time_left = TimeLeft()
        self.stages: list[StageDone] = []

    def expect(self, shards: Mapping[str, int]) -> None:
        """See `tasks.context.Progress`."""
        self.time_left.expect(shards)

    def stage(self, stage: str, label: str, shards: int) -> None:
        """See `tasks.context.Progress`."""
        self._at = _Stage(stage, label, shards, time.monotonic())

    def begin(self, units: str, n: int) -> Callable[[int], None]:
        """See `tasks.context.Progress`."""
        at = self._at
        if at is None:
            return lambda n: None
        with self._lock:
            at.units = units
            at.begun += n

        def done(n: int) -> None:
            with self._lock:
                at.made += n
            self._moved()

        return done

    def advance(self) -> None:
        """See `tasks.context.Progress`."""
        if self._at is not None:
            self._at.shards_done += 1
        self._moved()

    def finish(self, label: str, cached: int, shards: int) -> None:
        """See `tasks.context.Progress`."""
        at, self._at = self._at, None
        seconds = 0.0 if at is None else time.monotonic() - at.since
        self.time_left.record("" if at is None else at.name, shards, cached, seconds)
        self.stages.append(StageDone(label, cached, shards, seconds))
        self._say(_line(label, cached, shards, seconds))

    def note(self, message: str) -> None:
        """See `tasks.context.Progress`."""
        self._say(f"note: {message}", style="yellow")

    def advise(self, advice: Advice) -> None:
        """See `tasks.context.Progress`."""
        self._say(f"advice: {advice}", style="yellow")

    def tell(self) -> None:
        """Says how far the stage is, if nothing was said for a while."""
        at = self._at
        if at is not None and time.monotonic() - self._spoke >= TELL_SECONDS:
            self._say(at.told(self.time_left.seconds()))

    def _moved(self) -> None:
        """Something was done: a log wants no moving bar."""

    def _say(self, line: str, style: str | None = None) -> None:
        self._spoke = time.monotonic()
        self._write(line, style)

    def _write(self, line: str, style: str | None) -> None:
        self._console.print(line, style=style, markup=False)


class LoggedProgress(PlainProgress):
    """The same lines in the log of the flow run, where the Prefect server shows them."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._logger = get_run_logger()  # Which other threads have none of.

    def _write(self, line: str, style: str | None) -> None:
        self._logger.info(line)


class BarProgress(PlainProgress):
    """The same lines, above a moving bar for the stage at work."""

    def __init__(self, console: Console, bars: Bars) -> None:
        super().__init__(console)
        self._bars = bars
        self._task = bars.add_task("starting", total=None, left="", units="")

    def stage(self, stage: str, label: str, shards: int) -> None:
        """See `tasks.context.Progress`."""
        super().stage(stage, label, shards)
        self._bars.reset(self._task, total=shards, description=label, left="", units="")

    def tell(self) -> None:
        """The bar tells it all the time."""
        self._moved()

    def _moved(self) -> None:
        at = self._at
        if at is None:
            return
        left = self.time_left.seconds()
        rest = None if left is None else max(0.0, left - (time.monotonic() - at.since))
        self._bars.update(
            self._task,
            completed=at.shards_done,
            units=f"{at.made}/{at.begun} {at.units}" if at.begun else "",
            left="" if rest is None else f"about {_duration(rest)} left",
        )


@contextmanager
def open_progress() -> Iterator[PlainProgress]:
    """The flow run's log if it is deployed; else bars on a terminal, plain lines elsewhere, both
    on standard error."""
    # Unbroken lines in a file or pipe, so that a path can be searched for.
    console = Console(stderr=True, highlight=False, soft_wrap=not sys.stderr.isatty())
    with ExitStack() as stack:
        if deployment.id:
            progress: PlainProgress = LoggedProgress(console)
        elif not sys.stderr.isatty():
            progress = PlainProgress(console)
        else:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[units]}"),
                TimeElapsedColumn(),
                TextColumn("{task.fields[left]}"),
            )
            bars = stack.enter_context(Bars(*columns, console=console, transient=True))
            progress = BarProgress(console, bars)
        stack.enter_context(_telling(progress))
        yield progress


@contextmanager
def _telling(progress: PlainProgress) -> Iterator[None]:
    ended = threading.Event()

    def tell() -> None:
        while not ended.wait(_TURN_SECONDS):
            progress.tell()

    teller = threading.Thread(target=tell, name="progress", daemon=True)
    teller.start()
    try:
        yield
    finally:
        ended.set()
        teller.join()


def _line(label: str, cached: int, shards: int, seconds: float) -> str:
    how = "cached" if cached == shards else f"{seconds:.1f} s"
    part = f", {cached} of {shards} shards cached" if 0 < cached < shards else ""
    return f"{label:<42} {how}{part}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min" if minutes >= 2 else f"{60 * minutes + rest} s"
