"""A Prefect server that stands through many runs, as a team's does."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from flows.prefect_server.server import answers
from seal_core.guard import free_port, guarded

_START_SECONDS = 180.0


class PrefectServer:
    """A server with a folder of its own; it ends with this process."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._port = free_port()
        self._guard: subprocess.Popen[bytes] | None = None
        self.url = f"http://127.0.0.1:{self._port}/api"

    @property
    def environment(self) -> dict[str, str]:
        """What a run needs to use it."""
        return {"PREFECT_API_URL": self.url, "PREFECT_HOME": str(self._home)}

    def start(self) -> PrefectServer:
        """Starts it, on the same port and with the same database as before."""
        self._home.mkdir(parents=True, exist_ok=True)
        spec = importlib.util.find_spec("prefect")
        assert spec is not None and spec.origin is not None
        command = [
            *(sys.executable, "-m", "uvicorn", "--app-dir", str(Path(spec.origin).parent)),
            *("--factory", "prefect.server.api.server:create_app", "--host", "127.0.0.1"),
            *("--port", str(self._port), "--log-level", "error"),
        ]
        kept = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
        own = {
            "PREFECT_HOME": str(self._home),
            "PREFECT_UI_ENABLED": "0",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_LOGGING_SERVER_LEVEL": "CRITICAL",
        }
        with (self._home / "server.log").open("ab") as log:
            self._guard = subprocess.Popen(
                guarded(command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**kept, **own},
            )
        deadline = time.monotonic() + _START_SECONDS
        while not answers(self.url):
            assert self._guard.poll() is None, (self._home / "server.log").read_text()
            assert time.monotonic() < deadline, "the Prefect server did not start"
            time.sleep(0.1)
        return self

    def kill(self) -> None:
        """Ends it as a power cut would."""
        if self._guard is not None:
            os.killpg(self._guard.pid, signal.SIGKILL)
            self._guard.wait()
            self._guard = None
