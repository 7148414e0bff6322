"""Starts a Prefect server for the length of one command, out of reach of the terminal's ctrl-C.

Prefect would start one by itself, but in the terminal's foreground group: ctrl-C then ends the
server too, and the run that is to stop in good order waits for a server that is gone.
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

import httpx

from seal_core.engines.guard import free_port, guarded
from seal_core.errors import EngineError

_START_SECONDS = 120.0
_POLL_SECONDS = 0.1
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
    port = free_port()
    log_path = home / "server.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            guarded(_command(port)),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ, **_EPHEMERAL},
        )
    # Registered before Prefect's own handlers, and so run after them: they still talk to it.
    atexit.register(process.terminate)
    url = f"http://127.0.0.1:{port}/api"
    deadline = time.monotonic() + _START_SECONDS
    while not _is_healthy(url):
        if process.poll() is not None or time.monotonic() > deadline:
            process.terminate()
            tail = log_path.read_bytes()[-_TAIL_BYTES:].decode(errors="replace").strip()
            raise EngineError(f"the Prefect server did not start; the end of {log_path}:\n{tail}")
        time.sleep(_POLL_SECONDS)
    os.environ["PREFECT_API_URL"] = url


def _command(port: int) -> list[str]:
    spec = importlib.util.find_spec("prefect")
    folder = Path(str(spec.origin)).parent if spec else Path()
    app = ["--app-dir", str(folder), "--factory", "prefect.server.api.server:create_app"]
    place = ["--host", "127.0.0.1", "--port", str(port)]
    return [sys.executable, "-m", "uvicorn", *app, *place, "--log-level", "error"]


def _is_healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=5, trust_env=False).is_success
    except httpx.TransportError:
        return False
