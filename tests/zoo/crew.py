"""Runs one function call per process, with a limit on time and memory: a crash is a result."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from typing import Any

_PRELOAD = ["torch", "transformers", "peft", "transformers.models.auto.modeling_auto"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one call; `value` is meaningful if `error` is None.

    Attributes:
        error: One line.
        trace: The traceback, if there is one.
    """

    value: Any
    error: str | None
    seconds: float
    trace: str = ""


@dataclass(slots=True)
class _Worker:
    name: str
    process: Any
    pipe: Connection
    start: float


def run_all(
    function: Callable[..., Any],
    calls: Sequence[tuple[str, tuple[Any, ...]]],
    seconds: float,
    memory: int,
    jobs: int = 1,
) -> Iterator[tuple[str, Outcome]]:
    """Calls `function(*arguments)` for each named call, in the order in which they end.

    Args:
        seconds: Wall time that a call may take.
        memory: Bytes of address space that a call may take.
        jobs: Processes at a time.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*_PRELOAD, function.__module__])
    left, running = deque(calls), list[_Worker]()
    while left or running:
        while left and len(running) < jobs:
            name, arguments = left.popleft()
            here, there = context.Pipe(duplex=False)
            process = context.Process(target=_work, args=(there, function, arguments, memory))
            process.start()
            there.close()
            running.append(_Worker(name, process, here, time.monotonic()))
        wait([worker.pipe for worker in running], timeout=0.5)
        for worker in list(running):
            outcome = _outcome(worker, seconds)
            if outcome is not None:
                running.remove(worker)
                yield worker.name, outcome


def _work(
    pipe: Connection, function: Callable[..., Any], arguments: tuple[Any, ...], memory: int
) -> None:
    """In the process: one call, its result or its error sent back."""
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    os.dup2(2, 1)  # What models print is not the caller's output.
    try:
        pipe.send(Outcome(function(*arguments), None, 0.0))
    except Exception as error:
        line = (str(error).strip().splitlines() or [""])[0]
        pipe.send(Outcome(None, f"{type(error).__name__}: {line}", 0.0, traceback.format_exc()))
    pipe.close()


def _outcome(worker: _Worker, seconds: float) -> Outcome | None:
    """The worker's result if it has ended or is out of time; None while it works."""
    passed = time.monotonic() - worker.start
    if worker.pipe.poll():
        try:
            found = replace(worker.pipe.recv(), seconds=passed)
        except EOFError:
            worker.process.join()
            found = Outcome(None, _death(worker.process.exitcode), passed)
    elif passed > seconds:
        os.kill(worker.process.pid, signal.SIGKILL)
        found = Outcome(None, f"it took longer than {seconds:.0f} s", passed)
    else:
        return None
    worker.process.join()
    worker.pipe.close()
    return found


def _death(code: int | None) -> str:
    if code is not None and code < 0:
        return f"its process was ended by {signal.Signals(-code).name}"
    return f"its process ended with {code}"
