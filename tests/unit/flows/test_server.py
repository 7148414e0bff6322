"""A run's Prefect server: started again when it dies, and never waited for when it is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import flows.execute
import flows.prefect_server.server
from seal_core.errors import EngineError, InputError, StageError
from seal_core.guard import free_port
from tests.chaos.processes import children, descendants
from tests.waiting import HUNG, eventually

# Answers every request with 200.
HTTP = """
import http.server, sys
class Fine(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Fine).serve_forever()
"""
WAITS_FOR_EVER = """
import sys, threading
sys.modules["prefect"] = sys
from flows.prefect_server.leaving import leave
threading.Thread(target=threading.Event().wait).start()
leave(3)
"""


@pytest.fixture
def server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[flows.prefect_server.server.Server]:
    monkeypatch.setattr(
        flows.prefect_server.server,
        "_command",
        lambda port: [sys.executable, "-c", HTTP, str(port)],
    )
    server = flows.prefect_server.server.Server(tmp_path / "server.log")
    server.start()
    yield server
    server.close()


@pytest.mark.parametrize("what", ["server", "guard"])
def test_a_server_that_dies_is_started_again_at_the_same_address(
    server: flows.prefect_server.server.Server, what: str
) -> None:
    assert server._guard is not None
    guard = server._guard.pid
    before = [guard, *children(guard)]
    os.kill(before[what == "server"], signal.SIGKILL)
    assert eventually(lambda: server._guard is not None and server._guard.pid != guard)
    assert eventually(lambda: flows.prefect_server.server.answers(server.url))
    assert not set(before) & set(descendants(os.getpid()))


def test_a_server_that_was_closed_stays_away(server: flows.prefect_server.server.Server) -> None:
    server.close()
    assert eventually(lambda: not flows.prefect_server.server.answers(server.url))
    # Nobody is left who would start it again.
    keeper = f"prefect-server-{server._port}"
    assert eventually(lambda: keeper not in {t.name for t in threading.enumerate()})
    assert not flows.prefect_server.server.answers(server.url)


def test_a_named_server_that_is_not_there_is_wrong_input(monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"http://127.0.0.1:{free_port()}/api"
    monkeypatch.setenv("PREFECT_API_URL", url)
    with pytest.raises(InputError, match=rf"{url} does not answer.*prefect server start"):
        flows.prefect_server.server.check_named_server()


def test_a_named_server_that_says_no_is_there(
    server: flows.prefect_server.server.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", server.url)
    flows.prefect_server.server.check_named_server()


def test_the_process_ends_although_something_waits_for_the_server() -> None:
    url = f"http://127.0.0.1:{free_port()}/api"
    environment = {**os.environ, "PREFECT_API_URL": url}
    command = [sys.executable, "-c", WAITS_FOR_EVER]
    assert subprocess.run(command, env=environment, check=False, timeout=HUNG).returncode == 3


def lost_server(cause: Exception | None) -> Exception:
    """What Prefect raises at a flow's end, out of the flow's own error if it has one."""
    try:
        try:
            if cause is not None:
                raise cause
        finally:
            raise httpx.ConnectError("connection refused")
    except httpx.ConnectError as error:
        return error


@pytest.mark.parametrize(
    ("raised", "kind", "words"),
    [
        (lost_server(None), EngineError, "does not answer.*the same command"),
        (lost_server(StageError("the disk is full")), StageError, "^the disk is full$"),
        (ValueError("a mistake"), ValueError, "a mistake"),
    ],
)
def test_what_is_said_when_the_server_is_lost(
    monkeypatch: pytest.MonkeyPatch, raised: Exception, kind: type[Exception], words: str
) -> None:
    def seal(*_: object) -> str:
        raise raised

    monkeypatch.setattr(flows.execute, "seal", seal)
    with pytest.raises(kind, match=words):
        flows.execute._run_flow("demo.toml", None, [], None)
