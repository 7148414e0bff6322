"""Keeps a fixed number of engine processes and lends them to threads.

`PooledGenerator` and `PooledTrainer` are the engines' protocols over such a pool: what calls
them need not know that the work is done elsewhere.
"""

from __future__ import annotations

import atexit
import queue
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seal_core.engines import (
    GenerateRequest,
    Generation,
    LoraSettings,
    Progress,
    Scored,
    ScoreRequest,
    TrainedAdapter,
    TrainJob,
    TrainRow,
)
from seal_core.errors import EngineError, InputError
from seal_core.process.process import EngineProcess
from seal_core.process.spec import EngineSpec


class EnginePool:
    """Up to `n` engine processes, each started when it is first needed.

    Args:
        log_dir: Folder of the processes' logs, `engine-0.log` and so on.
    """

    def __init__(self, n: int, spec: EngineSpec, log_dir: Path) -> None:
        if n < 1:
            raise InputError(f"a pool of {n} engines cannot work: use at least 1")
        self._processes = [EngineProcess(spec, log_dir / f"engine-{i}.log") for i in range(n)]
        # Last in, first out: a process that runs is lent before another one is started.
        self._free: queue.LifoQueue[EngineProcess] = queue.LifoQueue()
        for process in reversed(self._processes):
            self._free.put(process)
        self._closed = False
        atexit.register(self.close)

    def call(
        self,
        name: str,
        payload: Mapping[str, Any],
        timeout: float | None = None,
        progress: Progress | None = None,
    ) -> Any:
        """Runs one call on a free process, waiting for one; see `EngineProcess.call`."""
        process = self._free.get()
        try:
            if self._closed:
                raise EngineError(f"engine call {name}: the pool is closed")
            return process.call(name, payload, timeout, progress)
        finally:
            self._free.put(process)

    def close(self) -> None:
        """Ends all processes; calls under way raise `EngineError`."""
        self._closed = True
        atexit.unregister(self.close)
        for process in self._processes:
            process.close()

    def __enter__(self) -> EnginePool:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class PooledGenerator:
    """A Generator on a pool; each call runs on one process."""

    def __init__(self, pool: EnginePool, timeout: float | None = None) -> None:
        self._pool = pool
        self._timeout = timeout

    def generate(
        self, requests: Sequence[GenerateRequest], progress: Progress | None = None
    ) -> list[Generation]:
        """One result per request, in the order of the requests."""
        return self._pool.call("generate", {"requests": requests}, self._timeout, progress)

    def score(
        self, requests: Sequence[ScoreRequest], progress: Progress | None = None
    ) -> list[Scored]:
        """One result per request, in the order of the requests."""
        return self._pool.call("score", {"requests": requests}, self._timeout, progress)

    def close(self) -> None:
        """Ends the pool."""
        self._pool.close()


class PooledTrainer:
    """A Trainer, and the policy's update, on a pool."""

    def __init__(self, pool: EnginePool, timeout: float | None = None) -> None:
        self._pool = pool
        self._timeout = timeout

    def train(
        self, jobs: Sequence[TrainJob], out: Path, progress: Progress | None = None
    ) -> list[TrainedAdapter]:
        """Writes each adapter to `out / adapter_id`; one result per job, in their order."""
        payload = {"jobs": jobs, "out": out}
        return self._pool.call("train", payload, self._timeout, progress)

    def update_policy(
        self,
        examples: Sequence[TrainRow],
        settings: LoraSettings,
        seed: int,
        out: Path,
        parent_adapter: str | None = None,
        progress: Progress | None = None,
    ) -> TrainedAdapter:
        """See `policy_sft.update_policy`."""
        payload = {
            "examples": examples,
            "settings": settings,
            "seed": seed,
            "out": out,
            "parent_adapter": parent_adapter,
        }
        return self._pool.call("update_policy", payload, self._timeout, progress)

    def close(self) -> None:
        """Ends the pool."""
        self._pool.close()
