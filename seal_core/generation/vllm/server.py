"""Owns the process of one vLLM server: starts it, waits for its health, ends it whole."""

from __future__ import annotations

import secrets
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import httpx

from seal_core import guard
from seal_core.errors import EngineError
from seal_core.generation.vllm.options import (
    VllmOptions,
    find_vllm,
    server_command,
    server_environment,
)
from seal_core.logs import log_causes

_POLL_SECONDS = 0.25
_END_SECONDS = 15.0


class VllmServer:
    """A server under a guard process, both in a process group of their own.

    Args:
        targets: Names of the layers that adapters may target.
        folder: A folder of the caller's for sockets; removed if the caller dies.
        log_path: File that the server's output is appended to.

    Attributes:
        lives: Times that it was started.
        on_gpu: Whether its vLLM is for GPUs; known once it was started.
    """

    def __init__(
        self, options: VllmOptions, targets: Sequence[str], folder: Path, log_path: Path
    ) -> None:
        self._options = options
        self._targets = targets
        self._folder = folder
        self._log_path = log_path
        self._guard: subprocess.Popen[bytes] | None = None
        self._closed = False
        self._starting = threading.Lock()
        self.lives = 0
        self.on_gpu = False
        self.api_key = secrets.token_urlsafe(24)
        self.url = ""

    @property
    def running(self) -> bool:
        """Whether the server's process is there; it may still be loading, or hang."""
        return self._guard is not None and self._guard.poll() is None

    def start(self) -> None:
        """Ends what is left of an earlier server, starts one, and waits until it is healthy.

        Raises:
            EngineError: It ended, or was not healthy in time; its own error is in the message.
        """
        with self._starting:
            self._start()

    def describe_end(self) -> str:
        """What happened to the server, for an error's message."""
        what = "does not answer" if self.running else "ended"
        return f"the vLLM server {what}{log_causes(self._log_path)}"

    def close(self) -> None:
        """Ends the server, also while it starts; it cannot be started again."""
        self._closed = True
        self._end()

    def _start(self) -> None:
        self._end()
        self.lives += 1
        install = find_vllm(self._options.python)
        self.on_gpu = not install.cpu
        port = guard.free_port()
        self.url = f"http://127.0.0.1:{port}"
        command = server_command(self._options, install, port, self._targets)
        self._log_path.parent.mkdir(parents=True, exist_ok=True)
        with self._log_path.open("ab") as log:
            self._guard = subprocess.Popen(
                guard.guarded(command, str(self._folder)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=server_environment(self._options, install, self.api_key, self._folder),
            )
        try:
            self._wait()
        except BaseException:
            self._end()
            raise

    def _wait(self) -> None:
        deadline = time.monotonic() + self._options.start_timeout
        while self._closed or not self._healthy():
            if self._closed:
                raise EngineError("the vLLM server was closed while it started")
            if not self.running:
                raise EngineError(f"the vLLM server did not start{log_causes(self._log_path)}")
            if time.monotonic() > deadline:
                raise EngineError(
                    f"the vLLM server was not healthy after {self._options.start_timeout:g} s: "
                    f"raise engine.start_timeout if it loads a large model"
                    f"{log_causes(self._log_path)}"
                )
            time.sleep(_POLL_SECONDS)

    def _healthy(self) -> bool:
        try:
            return (
                httpx.get(f"{self.url}/health", timeout=5, trust_env=False).status_code
                == httpx.codes.OK
            )
        except httpx.TransportError:
            return False

    def _end(self) -> None:
        """Asks the guard to end the server; what is left of the group then is killed."""
        process, self._guard = self._guard, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        guard.end_group(process.pid)
