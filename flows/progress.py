"""Progress: one line per stage; a bar for the current one and the time left on a terminal."""

from __future__ import annotations

import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from prefect.logging import get_run_logger
from prefect.runtime import deployment
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from seal_core.types import Advice


class TimeLeft:
    """Estimates the rest of a run from the shards that are left and what such shards took."""

    def __init__(self) -> None:
        self._left: Counter[str] = Counter()
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._done: Counter[str] = Counter()

    def expect(self, shards: Mapping[str, int]) -> None:
        """Shards of the whole run by stage."""
        self._left = Counter(shards)

    def record(self, stage: str, shards: int, cached: int, seconds: float) -> None:
        """A stage ended; only its shards that were not cached say how long one takes."""
        self._left[stage] -= shards
        if shards > cached:
            self._done[stage] += shards - cached
            self._seconds[stage] += seconds

    def seconds(self) -> float | None:
        """Seconds left; None as long as a stage that is to come has never been timed."""
        ahead = {stage: n for stage, n in self._left.items() if n > 0}
        if any(not self._done[stage] for stage in ahead):
            return None
        return sum(n * self._seconds[stage] / self._done[stage] for stage, n in ahead.items())


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


class PlainProgress:
    """One line when a stage ends: for files and pipes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._clock = time.monotonic()
        self._stage = ""
        self.time_left = TimeLeft()
        self.stages: list[StageDone] = []

    def expect(self, shards: Mapping[str, int]) -> None:
        """See `tasks.context.Progress`."""
        self.time_left.expect(shards)

    def stage(self, stage: str, label: str, shards: int) -> None:
        """See `tasks.context.Progress`."""
        self._clock, self._stage = time.monotonic(), stage

    def advance(self) -> None:
        """Says nothing: a log wants no moving bar."""

    def finish(self, label: str, cached: int, shards: int) -> None:
        """See `tasks.context.Progress`."""
        seconds = time.monotonic() - self._clock
        self.time_left.record(self._stage, shards, cached, seconds)
        self.stages.append(StageDone(label, cached, shards, seconds))
        self._say(_line(label, cached, shards, seconds))

    def note(self, message: str) -> None:
        """See `tasks.context.Progress`."""
        self._say(f"note: {message}", style="yellow")

    def advise(self, advice: Advice) -> None:
        """See `tasks.context.Progress`."""
        self._say(f"advice: {advice}", style="yellow")

    def _say(self, line: str, style: str | None = None) -> None:
        self._console.print(line, style=style, markup=False)


class LoggedProgress(PlainProgress):
    """The same lines in the log of the flow run, where the Prefect server shows them."""

    def _say(self, line: str, style: str | None = None) -> None:
        get_run_logger().info(line)


class BarProgress(PlainProgress):
    """The same lines, above a moving bar for the stage at work."""

    def __init__(self, console: Console, bars: Bars) -> None:
        super().__init__(console)
        self._bars = bars
        self._task = bars.add_task("starting", total=None, left="")

    def stage(self, stage: str, label: str, shards: int) -> None:
        """See `tasks.context.Progress`."""
        super().stage(stage, label, shards)
        left = self.time_left.seconds()
        text = "" if left is None else f"about {_duration(left)} left"
        self._bars.reset(self._task, total=shards, description=label, left=text)

    def advance(self) -> None:
        """See `tasks.context.Progress`."""
        self._bars.advance(self._task)


@contextmanager
def open_progress() -> Iterator[PlainProgress]:
    """The flow run's log if it is deployed; else bars on a terminal, plain lines elsewhere, both
    on standard error."""
    # Unbroken lines in a file or pipe, so that a path can be searched for.
    console = Console(stderr=True, highlight=False, soft_wrap=not sys.stderr.isatty())
    if deployment.id:
        yield LoggedProgress(console)
        return
    if not sys.stderr.isatty():
        yield PlainProgress(console)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
    )
    with Bars(*columns, console=console, transient=True) as bars:
        yield BarProgress(console, bars)


def _line(label: str, cached: int, shards: int, seconds: float) -> str:
    how = "cached" if cached == shards else f"{seconds:.1f} s"
    part = f", {cached} of {shards} shards cached" if 0 < cached < shards else ""
    return f"{label:<42} {how}{part}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min" if minutes >= 2 else f"{60 * minutes + rest} s"
