"""Flow runs of a site, and what the store says about their shards."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from seal_core.errors import InputError
from storage.runs.history import executions
from storage.store import Store
from storage.tables.store_rows import StageRow
from tests.deploy.site import Site, wait_for

SMALL = [
    *("run.rounds=1", "data.limit=3", "data.heldout_limit=3", "finetune.epochs=2"),
    *("execution.shard_size=1", "sample.edits_per_problem=2", "execution.workers=1"),
]
RUN_SECONDS = 180.0


@dataclass
class Case:
    """A run that is to be watched: its name, and a store of its own."""

    name: str
    store: Path

    @property
    def parameters(self) -> dict[str, Any]:
        """Of the deployment `run`."""
        return {
            "config": "configs/demo.toml",
            "name": self.name,
            "overrides": [f"execution.store={json.dumps(str(self.store))}", *SMALL],
        }

    def executions(self) -> list[StageRow]:
        """Executions of shards so far, in the order of their start."""
        try:
            rows = executions(Store.open(str(self.store), create=False), self.name)
        except InputError:
            return []
        return sorted((row for _, row in rows), key=lambda row: row.started_at)

    def done(self) -> set[str]:
        """Identities of the shards that are done."""
        return {row.identity for row in self.executions() if row.error is None}

    def parts(self) -> dict[str, bytes]:
        """All rows but the record of runs and executions, by path."""
        files = sorted(self.store.rglob("part-*.parquet"))
        named = {str(file.relative_to(self.store)): file for file in files}
        skip = ("stages/", "runs/")
        return {p: f.read_bytes() for p, f in named.items() if not p.startswith(skip)}


@dataclass(frozen=True)
class Repeats:
    """How a run went on after it had stopped.

    Attributes:
        cached: Shards that were done before, and were not executed again.
        again: Shards that had failed or were cut off, and were executed again.
        first: Shards that were executed for the first time.
        doubled: Shards that were done before and were executed all the same; must be 0.
    """

    cached: int
    again: int
    first: int
    doubled: int


def repeats(before: Sequence[StageRow], after: Sequence[StageRow]) -> Repeats:
    """Compares the executions up to the stop with all of them."""
    killed = {row.identity for row in after if row.ended_at is None}
    done = {row.identity for row in before if row.error is None}
    tried = ({row.identity for row in before} | killed) - done
    seen = set(before)
    later = {r.identity for r in after if r not in seen and r.ended_at is not None}
    return Repeats(
        cached=len(done - later),
        again=len(tried & later),
        first=len(later - done - tried),
        doubled=len(done & later),
    )


def start(site: Site, case: Case, deployment: str = "run") -> str:
    """Starts a run of a deployment of the flow `seal`; its id."""
    output = site.run(
        f"prefect deployment run seal/{deployment} --params PARAMETERS",
        PARAMETERS=json.dumps(case.parameters),
    )
    return output.partition("UUID: ")[2].split()[0]


def read(site: Site, run: str) -> dict[str, Any]:
    """A flow run as the server has it."""
    return site.ask(f"/flow_runs/{run}")


def await_state(site: Site, run: str, *states: str, seconds: float = RUN_SECONDS) -> dict[str, Any]:
    """Waits until the run is in one of the states; the run.

    Raises:
        AssertionError: it ended in another state.
    """
    ends = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}

    def ended() -> dict[str, Any] | None:
        found = read(site, run)
        return found if found["state_type"] in ends | set(states) else None

    found = wait_for(ended, f"flow run {run} to be {' or '.join(states)}", seconds)
    assert found["state_type"] in states, f"{found['state_name']}: {found['state']['message']}"
    return found


def await_stage(case: Case, label: str, shards: int = 1) -> None:
    """Waits until so many shards of a stage are done."""

    def reached() -> bool:
        done = [r for r in case.executions() if r.label == label and r.error is None]
        return len(done) >= shards

    wait_for(reached, f"{label} of run {case.name}", RUN_SECONDS)


@dataclass
class Process:
    """The process of a deployed run, and its engines."""

    main: psutil.Process
    engines: list[psutil.Process]

    def gone(self) -> bool:
        """Whether all have ended."""
        return not any(_lives(process) for process in (self.main, *self.engines))


def process_of(worker: subprocess.Popen[bytes]) -> Process:
    """The one flow process that a worker has just now."""
    (main,) = psutil.Process(worker.pid).children()
    return Process(main, main.children(recursive=True))


def kill_worker(worker: subprocess.Popen[bytes]) -> None:
    """SIGKILL to the worker alone."""
    worker.kill()
    worker.wait()


def kill_machine(worker: subprocess.Popen[bytes], process: Process) -> None:
    """Worker and flow die at once, as when their machine does: none can tell the server."""
    os.kill(process.main.pid, signal.SIGSTOP)
    kill_worker(worker)
    os.kill(process.main.pid, signal.SIGKILL)


def seconds_between(start: str, end: str) -> float:
    """Between two of the server's times."""
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()


def await_gone(process: Process, seconds: float) -> float:
    """Waits for the end of flow and engines; how long that took."""
    began = time.monotonic()
    wait_for(process.gone, "the end of the flow's process and its engines", seconds)
    return time.monotonic() - began


def _lives(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
