"""Takes the Prefect server's `gpu` limit before a run's first work on a GPU, to the run's end.

Engines keep their model on the card between two stages. A slot for each stage would let the
models of two runs meet there, so a run keeps its slot until its engines have ended. The slot is
leased: the server takes it back from a process that was killed. A server that has no such limit
holds up nobody.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

from prefect.concurrency.sync import concurrency

from seal_core.config import Config
from seal_core.engine_section import EngineSection
from seal_core.errors import StageError
from tasks.context import RunContext

LIMIT_VARIABLE = "SEAL_GPU_LIMIT"
"""Environment variable with the limit's name; for machines with a limit, or a card, each."""

LEASE_SECONDS = 120.0
_ASK_SECONDS = 10.0
_TURN_SECONDS = 0.1


def await_gpu(context: RunContext) -> None:
    """Waits, in a task's thread, until the run has its slot, if its engines work on a GPU.

    The flow's thread takes the slot, see `hold_gpu_if_wanted`: it outlives the task, and a slot
    that is lost ends the thread that took it.

    Raises:
        StageError: the run ended meanwhile.
    """
    if not uses_gpu(context.config):
        return
    context.wants_gpu.set()
    while not context.holds_gpu.wait(_TURN_SECONDS):
        if context.stopping.is_set():
            raise StageError("the run ended while it waited for the GPU")


def hold_gpu_if_wanted(context: RunContext, ended: threading.Event) -> None:
    """Waits, in the flow's thread, for the end of a task; takes the slot if one asks for it."""
    waits = uses_gpu(context.config)
    while not ended.wait(_TURN_SECONDS if waits else None):
        if context.wants_gpu.is_set():
            hold_gpu(context)
            waits = False


def hold_gpu(context: RunContext) -> None:
    """Waits for the run's slot, if its engines work on a GPU and it has no slot yet.

    The run is ended if the server takes the slot back while it works.
    """
    if context.holds_gpu.is_set() or not uses_gpu(context.config):
        return
    name = os.environ.get(LIMIT_VARIABLE) or "gpu"
    waiting = False
    while not context.holds_gpu.is_set():
        # In short turns, so that a signal ends the wait.
        slot = concurrency(
            name,
            timeout_seconds=_ASK_SECONDS,
            lease_duration=LEASE_SECONDS,
            raise_on_lease_renewal_failure=True,
        )
        try:
            context.after_engines.enter_context(slot)
            context.holds_gpu.set()
        except TimeoutError:
            if not waiting:
                context.progress.note(f"waiting for the GPU: the limit {name!r} is taken")
            waiting = True


def uses_gpu(config: Config) -> bool:
    """Whether the run's engines will work on a GPU; asks the machine, and not torch."""
    if isinstance(config.engine, EngineSection) and config.engine.gpus:
        return True
    device = config.execution.device
    if device != "auto":
        return device.startswith("cuda")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible not in ("", "-1") and any(Path("/dev").glob("nvidia[0-9]*"))
