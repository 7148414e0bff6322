"""A small real run as a user types it, and what it says while it runs."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.processes import MARK

ROOT = Path(__file__).parents[2]
SEAL = [sys.executable, "-c", "from flows.cli import main; main()"]
NAME = "demo"
WORKERS = 2
IN_FLIGHT = 2 * WORKERS
"""Shards of one stage that a run works on, or has handed out, at once."""

_STAGE = re.compile(r"(\S.*?) +(?:cached|\d+\.\d s)(?:, \d+ of \d+ shards cached)?$")


@dataclass(frozen=True)
class Scenario:
    """Settings of a run, and where it runs.

    Attributes:
        environment: Variables beside those that every run gets.
        ready: Called before each start; waits for what the run needs.
    """

    folder: Path
    settings: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    ready: Callable[[], object] = bool

    @property
    def store(self) -> Path:
        """Folder of the store that the run writes."""
        return self.folder / "seal-store"

    @property
    def command(self) -> list[str]:
        """The command, the same for the first start and for every other."""
        settings = [part for setting in self.settings for part in ("--set", setting)]
        return [*SEAL, "run", str(ROOT / "configs/demo.toml"), *settings]

    def start(self) -> Running:
        """Starts the run, or resumes it."""
        self.ready()
        self.folder.mkdir(parents=True, exist_ok=True)
        return Running(self)


def small(rounds: int, train: int, heldout: int, *more: str) -> tuple[str, ...]:
    """Settings of a run of a few seconds, a shard per problem."""
    return (
        f"run.rounds={rounds}",
        f"data.limit={train}",
        f"data.heldout_limit={heldout}",
        "finetune.epochs=2",
        "update.epochs=2",
        "sample.edits_per_problem=2",
        "execution.shard_size=1",
        f"execution.workers={WORKERS}",
        *more,
    )


class Running:
    """One start of a run: its process, and the lines of its standard error as they come."""

    def __init__(self, scenario: Scenario) -> None:
        self.mark = uuid.uuid4().hex
        self.scenario = scenario
        self.started = time.monotonic()
        self._lines: list[tuple[float, str]] = []
        self._changed = threading.Condition()
        scratch = scenario.folder / "tmp"
        scratch.mkdir(exist_ok=True)
        self._out = (scenario.folder / "out.txt").open("w+b")
        self.process = subprocess.Popen(
            scenario.command,
            cwd=scenario.folder,
            env=_environment(scenario.environment, self.mark, scratch),
            stdin=subprocess.DEVNULL,
            stdout=self._out,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The flow's process."""
        return self.process.pid

    @property
    def stages(self) -> list[tuple[float, str]]:
        """Stages that have ended, each with the seconds since the start."""
        with self._changed:
            matches = [(at, _STAGE.match(line)) for at, line in self._lines]
        return [(at - self.started, match[1]) for at, match in matches if match]

    @property
    def errors(self) -> str:
        """All of standard error."""
        with self._changed:
            return "\n".join(line for _, line in self._lines)

    @property
    def output(self) -> str:
        """All of standard output."""
        return (self.scenario.folder / "out.txt").read_text()

    def wait_for_stages(self, n: int, seconds: float) -> bool:
        """Waits until so many stages have ended; False if the run ends, or takes longer."""
        deadline = time.monotonic() + seconds
        while len(self.stages) < n:
            if not self._reader.is_alive() or time.monotonic() > deadline:
                return len(self.stages) >= n
            with self._changed:
                self._changed.wait(0.05)
        return True

    def wait(self, seconds: float) -> int:
        """Exit code of the flow's process.

        Raises:
            TimeoutExpired: It hangs; its process group was killed.
        """
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(self.pid, signal.SIGKILL)
            self.process.wait()
            raise
        # Whoever survives the flow's process may hold its standard error open.
        self._reader.join(5)
        self._out.close()
        return code

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._changed:
                self._lines.append((time.monotonic(), line.rstrip("\n")))
                self._changed.notify_all()


def _environment(own: Mapping[str, str], mark: str, scratch: Path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "SEAL_"))}
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join(paths),
        "HF_HUB_OFFLINE": "1",
        "TMPDIR": str(scratch),
        **own,
        MARK: mark,
    }


def stage_of(label: str) -> str:
    """The stage's name in a line such as `finetune heldout round_0`."""
    return label.split()[0]


def one_line(errors: str) -> list[str]:
    """Lines of an error stream that are no progress: what the user has to read."""
    lines: Sequence[str] = errors.splitlines()
    return [line for line in lines if line.strip() and not _STAGE.match(line)]
