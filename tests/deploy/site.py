"""A Prefect server with workers on loopback, driven by the commands of docs/deploy.md."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil

from seal_core.guard import free_port

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs/deploy.md"
_START_SECONDS = 120.0
T = TypeVar("T")


class Site:
    """The server's address, the environment of every command, and what was started.

    Args:
        folder: For Prefect's own files and for logs.
        environment: On top of the current one.
    """

    def __init__(self, folder: Path, stack: ExitStack, environment: dict[str, str]) -> None:
        self.folder = folder
        self.port = free_port()
        self.commands: list[str] = []
        self._stack = stack
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT", "SEAL"))}
        self.environment = {
            **clean,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{clean['PATH']}",
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_API_URL": f"http://127.0.0.1:{self.port}/api",
            "PREFECT_SERVER_API_PORT": str(self.port),
            "DO_NOT_TRACK": "1",
            **environment,
        }
        self.api = stack.enter_context(
            httpx.Client(base_url=self.environment["PREFECT_API_URL"], timeout=30, trust_env=False)
        )

    def ask(self, path: str, body: Any = None) -> Any:
        """The server's answer to a POST, or to a GET if there is no body."""
        reply = self.api.get(path) if body is None else self.api.post(path, json=body)
        reply.raise_for_status()
        return reply.json() if reply.content else None

    def run(self, command: str, **blanks: str) -> str:
        """Runs a command of docs/deploy.md to its end; its output.

        Args:
            command: As it is written there.
            blanks: What to put in place of words in capitals, such as `FLOW_RUN_ID`.
        """
        done = subprocess.run(
            self._words(command, blanks),
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"{command}: exit code {done.returncode}\n{done.stderr}")
        return done.stdout

    def start(self, command: str, log: str) -> subprocess.Popen[bytes]:
        """Starts a command of docs/deploy.md in a session of its own, ended with the site."""
        with (self.folder / log).open("ab") as output:
            process = subprocess.Popen(
                self._words(command, {}),
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                # A background job of a shell ignores it, and Prefect's worker ends by it.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            )
        self._stack.callback(end_tree, process)
        return process

    def start_server(self) -> subprocess.Popen[bytes]:
        """Starts the server, and waits until it answers."""
        process = self.start("prefect server start", "server.log")

        def healthy() -> bool:
            if process.poll() is not None:
                raise RuntimeError(f"the server ended: {tail(self.folder / 'server.log')}")
            try:
                return self.api.get("/health").is_success
            except httpx.TransportError:
                return False

        wait_for(healthy, "the Prefect server", _START_SECONDS)
        return process

    def _words(self, command: str, blanks: dict[str, str]) -> list[str]:
        if command not in documented_commands():
            raise AssertionError(f"{DOCS.name} does not have the command: {command}")
        self.commands.append(command)
        return [blanks.get(word, word) for word in shlex.split(command)]


@contextmanager
def open_site(folder: Path, environment: dict[str, str]) -> Iterator[Site]:
    """A site whose processes end with the block."""
    with ExitStack() as stack:
        yield Site(folder, stack, environment)


def documented_commands() -> list[str]:
    """The commands of the `sh` blocks of docs/deploy.md; without exports and comments."""
    blocks = re.findall(r"^```sh\n(.*?)^```", DOCS.read_text(), re.DOTALL | re.MULTILINE)
    lines = "".join(blocks).replace("\\\n", "").splitlines()
    commands = (line.partition(" #")[0].strip() for line in lines)
    return [" ".join(c.split()) for c in commands if c and not c.startswith(("export ", "#"))]


def wait_for(check: Callable[[], T], what: str, seconds: float) -> T:
    """What `check` gives as soon as it is true.

    Raises:
        TimeoutError: naming `what`, when the time is over.
    """
    deadline = time.monotonic() + seconds
    while not (found := check()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"after {seconds:g} s: {what}")
        time.sleep(0.2)
    return found


def end_tree(process: subprocess.Popen[bytes]) -> None:
    """Kills a process that we started, with everything below it."""
    try:
        family = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    process.kill()
    process.wait()
    for child in family:
        if child.is_running():
            child.kill()


def tail(log: Path, characters: int = 2000) -> str:
    """The end of a log."""
    return log.read_text(errors="replace")[-characters:]
