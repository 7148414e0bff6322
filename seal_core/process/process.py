"""Runs engines in a process of their own, which can be ended whatever it is doing.

A thread cannot be interrupted inside a GPU kernel and a leak cannot be taken back, but a
process group can be killed. This module imports no torch, so the parent stays light.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seal_core.engines import Progress
from seal_core.errors import EngineError, InputError, SealError, StageError, StoreError
from seal_core.gpus import visible_gpu
from seal_core.logs import log_tail
from seal_core.process import wire
from seal_core.process.spec import EngineSpec

_ERRORS: dict[str, type[SealError]] = {
    cls.__name__: cls for cls in (EngineError, InputError, StageError, StoreError)
}
_MAIN = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from seal_core.process.host import main; main()"
)


class EngineProcess:
    """One child process with its engines; started by the first call, and again after a death.

    Args:
        log_path: File that the child's output is appended to.
    """

    def __init__(self, spec: EngineSpec, log_path: Path) -> None:
        self._spec = spec
        self._log_path = log_path
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket | None = None
        self._closed = False

    @property
    def pid(self) -> int | None:
        """The child's process id; None when there is no child."""
        return None if self._process is None else self._process.pid

    def call(
        self,
        name: str,
        payload: Mapping[str, Any],
        timeout: float | None = None,
        progress: Progress | None = None,
    ) -> Any:
        """Runs one call in the child and waits for its result.

        Args:
            name: Of a call in `host.Engines.calls`.
            payload: The call's arguments by name.
            timeout: Seconds, the child's start included; None for no limit.
            progress: Called in this thread as items are done.

        Raises:
            EngineError: The child died, hung or failed; the next call starts a new one.
            InputError: The child refused the input; it goes on.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._lock:
            try:
                answer = self._converse(name, payload, deadline, progress)
            except TimeoutError:
                self._end()
                raise EngineError(
                    f"engine call {name} was ended after {timeout:g} s, its limit "
                    f"(execution.shard_timeout){log_tail(self._log_path)}"
                ) from None
            except BaseException:
                # Also on Ctrl-C: a reply that nobody awaits must not answer the next call.
                self._end()
                raise
            if "error" not in answer:
                return answer["result"]
            if answer["error"] in _ERRORS:
                raise _ERRORS[answer["error"]](answer["message"])
            self._end()
            raise EngineError(
                f"engine call {name} failed: {answer['message']}{log_tail(self._log_path)}"
            )

    def close(self) -> None:
        """Ends the child at once, also in the middle of a call; it cannot be used again."""
        self._closed = True
        # Repeated, since a call in another thread may be just about to start a child.
        while not self._lock.acquire(timeout=0.05):
            self._signal()
        try:
            self._end()
        finally:
            self._lock.release()

    def _converse(
        self,
        name: str,
        payload: Mapping[str, Any],
        deadline: float | None,
        progress: Progress | None,
    ) -> dict[str, Any]:
        """Sends the call and returns the child's last word on it, a result or an error."""
        try:
            # Inside, since a child may be dead before it is told what to be.
            connection = self._start()
            connection.settimeout(_left(deadline))
            wire.send(connection, {"call": name, "payload": dict(payload)})
            while (message := wire.receive(connection)) is not None:
                if "progress" not in message:
                    return message
                if progress is not None:
                    progress(message["progress"])
                connection.settimeout(_left(deadline))
        except (BrokenPipeError, ConnectionResetError):
            raise self._death(name) from None
        raise self._death(name)

    def _start(self) -> socket.socket:
        if self._closed:
            raise EngineError("the engine is closed")
        if self._connection is not None and self._process is not None:
            if self._process.poll() is None:
                return self._connection
            self._end()
        ours, theirs = socket.socketpair()
        self._log_path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = str(theirs.fileno())
        with theirs, self._log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    "-c",
                    _MAIN,
                    json.dumps(sys.path),
                    descriptor,
                    str(os.getpid()),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                env=_environment(self._spec),
            )
        self._connection = ours
        wire.send(ours, {"spec": self._spec})
        return ours

    def _death(self, name: str) -> EngineError:
        """Says how the child ended; its exit may be a moment behind its closed socket."""
        process = self._process
        if process is None:
            return EngineError(f"engine call {name}: the engine was closed")
        try:
            code = process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return EngineError(
                f"engine call {name}: the engine went silent{log_tail(self._log_path)}"
            )
        how = f"with exit code {code}"
        if code < 0:
            how = f"by {signal.Signals(-code).name}"
            if -code == signal.SIGKILL:
                how += " (killed from outside, often for using too much memory)"
        return EngineError(f"engine call {name}: the engine ended {how}{log_tail(self._log_path)}")

    def _signal(self) -> None:
        process = self._process
        if process is not None and process.poll() is None:
            # Between the check and the signal it may end by itself, which is as good.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    def _end(self) -> None:
        self._signal()
        if self._process is not None:
            self._process.wait()
        if self._connection is not None:
            self._connection.close()
        self._process = self._connection = None


def _left(deadline: float | None) -> float | None:
    if deadline is None:
        return None
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _environment(spec: EngineSpec) -> dict[str, str]:
    environment = dict(os.environ)
    environment.update(
        OMP_NUM_THREADS=str(spec.threads),
        TOKENIZERS_PARALLELISM="false",
        HF_HUB_DISABLE_PROGRESS_BARS="1",
        PYTHONUNBUFFERED="1",
    )
    gpu = visible_gpu(spec.device)
    if gpu is not None:
        # The child sees one GPU: with several, the transformers trainer would spread over all.
        environment["CUDA_VISIBLE_DEVICES"] = gpu
    return environment
