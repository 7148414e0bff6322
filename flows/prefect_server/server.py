"""Keeps a Prefect server for the length of one command, out of reach of the terminal's ctrl-C.

Prefect would start one by itself, but in the terminal's foreground group: ctrl-C then ends the
server too, and the run that is to stop in good order waits for a server that is gone. Nor would
Prefect start it again if it dies, and a run without a server cannot end.
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx

from seal_core.errors import EngineError, InputError
from seal_core.guard import end_group, free_port, guarded

_START_SECONDS = 120.0
_POLL_SECONDS = 0.1
_STARTS = 3
_PAUSE_SECONDS = 2.0
_CHECK_SECONDS = 10.0
_QUICK_SECONDS = 60.0
_QUICK_DEATHS = 8
_TAIL_BYTES = 2000
_EPHEMERAL = {
    "PREFECT_UI_ENABLED": "0",
    "PREFECT__SERVER_EPHEMERAL": "1",  # Only the services that a server for one command needs.
    "PREFECT__SERVER_FINAL": "1",
}


def start_server(home: Path) -> None:
    """Points Prefect at a server of our own, unless the user's environment names one.

    It ends with this process, however that ends. Has to run before Prefect is imported.

    Raises:
        EngineError: It did not start; its log says why.
    """
    if "PREFECT_API_URL" in os.environ or "PREFECT_PROFILE" in os.environ:
        return
    server = Server(home / "server.log")
    # Registered before Prefect's own handlers, and so run after them: they still talk to it.
    atexit.register(server.close)
    server.start()
    os.environ["PREFECT_API_URL"] = server.url


def check_named_server() -> None:
    """Asks the server that the user's environment names, if any, for a sign of life.

    Raises:
        InputError: It cannot be reached.
    """
    url = os.environ.get("PREFECT_API_URL")
    if url and not answers(url):
        raise InputError(
            f"the Prefect server {url} does not answer: start it with `prefect server start`, "
            "or unset PREFECT_API_URL"
        )


def answers(url: str) -> bool:
    """Whether anything answers at a Prefect API's address, be it with an error."""
    try:
        # No secret is sent, and whether its certificate is to be trusted is Prefect's to say.
        httpx.get(f"{url.rstrip('/')}/health", timeout=_CHECK_SECONDS, verify=False)
    except (httpx.TransportError, httpx.InvalidURL):
        return False
    return True


class Server:
    """A server under a guard, on one port for all its lives; its database stays between them."""

    def __init__(self, log_path: Path) -> None:
        self._log_path = log_path
        self._port = free_port()
        self._guard: subprocess.Popen[bytes] | None = None
        self._closed = False
        self._lock = threading.Lock()
        self.url = f"http://127.0.0.1:{self._port}/api"

    def start(self) -> None:
        """Starts it, waits until it is healthy, and from then on starts it again if it dies."""
        self._log_path.write_bytes(b"")
        guard = self._launch()
        deadline, tries = time.monotonic() + _START_SECONDS, _STARTS - 1
        while not self._is_healthy():
            if guard is not None and guard.poll() is not None and tries:
                # Another command that starts in this store at the same time has the database.
                tries -= 1
                time.sleep(_PAUSE_SECONDS)
                end_group(guard.pid)
                guard = self._launch()
            if guard is None or guard.poll() is not None or time.monotonic() > deadline:
                self.close()
                tail = self._log_path.read_bytes()[-_TAIL_BYTES:].decode(errors="replace").strip()
                raise EngineError(
                    f"the Prefect server did not start; the end of {self._log_path}:\n{tail}"
                )
            time.sleep(_POLL_SECONDS)
        threading.Thread(
            target=self._keep, name=f"prefect-server-{self._port}", daemon=True
        ).start()

    def close(self) -> None:
        """Ends it for good."""
        with self._lock:
            self._closed = True
            if self._guard is not None:
                self._guard.terminate()

    def _launch(self) -> subprocess.Popen[bytes] | None:
        with self._lock, self._log_path.open("ab") as log:
            if self._closed:
                return None
            self._guard = subprocess.Popen(
                guarded(_command(self._port)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, **_EPHEMERAL},
            )
            return self._guard

    def _keep(self) -> None:
        """Waits for its death, again and again; Prefect's client tries on for half a minute."""
        guard, quick_deaths, born = self._guard, 0, time.monotonic()
        while guard is not None and quick_deaths < _QUICK_DEATHS:
            guard.wait()
            quick_deaths = quick_deaths + 1 if time.monotonic() - born < _QUICK_SECONDS else 0
            # If the guard was killed, the server still holds the port.
            end_group(guard.pid)
            guard, born = self._launch(), time.monotonic()

    def _is_healthy(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health", timeout=5, trust_env=False).is_success
        except httpx.TransportError:
            return False


def _command(port: int) -> list[str]:
    spec = importlib.util.find_spec("prefect")
    folder = Path(str(spec.origin)).parent if spec else Path()
    app = ["--app-dir", str(folder), "--factory", "prefect.server.api.server:create_app"]
    place = ["--host", "127.0.0.1", "--port", str(port)]
    return [sys.executable, "-m", "uvicorn", *app, *place, "--log-level", "error"]
