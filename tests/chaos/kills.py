"""Ways to end a part of a run, from outside and without warning."""

from __future__ import annotations

import contextlib
import os
import random
import signal
from collections.abc import Callable
from dataclasses import dataclass

from tests.chaos.processes import ENGINE, PREFECT, VLLM, child_with, children
from tests.chaos.scenario import IN_FLIGHT, Running

Finder = Callable[[Running], list[int]]


@dataclass(frozen=True)
class Kind:
    """One way.

    Attributes:
        target: What it hits: `flow`, `engine`, `vllm` or `prefect`.
        act: Does it; False if there is nothing to hit now.
        codes: Exit codes that the flow's process may end with by it; none if it lives on.
        in_flight: Shards that it may cost at most.
    """

    name: str
    target: str
    act: Callable[[Running, random.Random], bool]
    codes: tuple[int, ...] = ()
    in_flight: int = IN_FLIGHT


def _process(number: int) -> Callable[[Running, random.Random], bool]:
    def act(running: Running, _: random.Random) -> bool:
        os.kill(running.pid, number)
        return True

    return act


def _group(number: int) -> Callable[[Running, random.Random], bool]:
    def act(running: Running, _: random.Random) -> bool:
        os.killpg(running.pid, number)
        return True

    return act


def _victim(find: Finder) -> Callable[[Running, random.Random], bool]:
    def act(running: Running, chance: random.Random) -> bool:
        found = find(running)
        if not found:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(chance.choice(found), signal.SIGKILL)
            return True
        return False

    return act


def _engines(running: Running) -> list[int]:
    return child_with(running.pid, ENGINE)


def _guards(what: str) -> Finder:
    return lambda running: child_with(running.pid, what)


def _servers(what: str) -> Finder:
    """The servers themselves: children of their guards."""
    return lambda running: [pid for guard in _guards(what)(running) for pid in children(guard)]


def _cores(running: Running) -> list[int]:
    """vLLM's engine, which its HTTP server has as a child."""
    return [pid for server in _servers(VLLM)(running) for pid in children(server)]


FLOW = Kind("flow process, kill -9", "flow", _process(signal.SIGKILL), (-9,))
GROUP = Kind("flow process group, kill -9", "flow", _group(signal.SIGKILL), (-9,))
CTRL_C = Kind("flow, ctrl-C", "flow", _group(signal.SIGINT), (130,))
TERM = Kind("flow, SIGTERM", "flow", _process(signal.SIGTERM), (143,))
WORKER = Kind("engine process, kill -9", "engine", _victim(_engines), in_flight=1)
SERVER = Kind("Prefect server, kill -9", "prefect", _victim(_servers(PREFECT)), in_flight=0)
GUARD = Kind("Prefect server's guard, kill -9", "prefect", _victim(_guards(PREFECT)), in_flight=0)
VLLM_SERVER = Kind("vLLM server, kill -9", "vllm", _victim(_servers(VLLM)))
VLLM_CORE = Kind("vLLM engine core, kill -9", "vllm", _victim(_cores))
VLLM_GUARD = Kind("vLLM server's guard, kill -9", "vllm", _victim(_guards(VLLM)))
