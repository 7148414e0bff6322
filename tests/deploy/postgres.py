"""A Postgres of our own on loopback, from Debian's package, in a temporary folder."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from seal_core.guard import free_port

_PACKAGE = "postgresql"
_START_SECONDS = 30.0


@dataclass(frozen=True)
class Postgres:
    """A running server.

    Attributes:
        url: For Prefect, with the driver asyncpg.
    """

    programs: Path
    port: int
    password: str

    @property
    def url(self) -> str:
        return f"postgresql+asyncpg://prefect:{self.password}@127.0.0.1:{self.port}/prefect"

    def ask(self, sql: str) -> str:
        """The single value that a query of the database `prefect` gives."""
        return self.run("psql", "-d", "prefect", "-Atc", sql).strip()

    def run(self, program: str, *arguments: str) -> str:
        """Runs one of Postgres' own programs as the user `prefect`."""
        place = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "prefect"]
        done = subprocess.run(
            [self.programs / program, *place, *arguments],
            env={**os.environ, "PGPASSWORD": self.password},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """A server with an empty database `prefect`; it ends with the block, and its files go."""
    programs, user = find_programs(), _user()
    # Not in a folder of ours: the user that Postgres runs as has to get in.
    folder = Path(tempfile.mkdtemp(prefix="seal-postgres-"))
    try:
        server = Postgres(programs, free_port(), secrets.token_hex(16))
        if user is not None:
            os.chown(folder, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)
        _make_cluster(server, folder, user)
        process = _start(server, folder, user)
        try:
            _await_ready(server, process)
            server.run("createdb", "prefect")
            yield server
        finally:
            process.send_signal(signal.SIGINT)  # Postgres' fast shutdown.
            process.wait(timeout=30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def find_programs() -> Path:
    """The folder of `initdb` and `postgres`; installs Debian's package if there is none.

    Raises:
        SystemExit: they are not there, and only root may install them.
    """
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=_release)
    if not found and os.geteuid() == 0:
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update"], ["install", "-y", "--no-install-recommends", _PACKAGE]):
            subprocess.run(["apt-get", "-qq", *command], env=quiet, check=True)
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=_release)
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    if on_path is None:
        raise SystemExit(f"Postgres is not installed: apt-get install {_PACKAGE}")
    return Path(on_path).resolve().parent


def _release(initdb: Path) -> float:
    return float(initdb.parts[-3])


def _user() -> str | None:
    """Whom to become: Postgres refuses to run as root."""
    return "postgres" if os.geteuid() == 0 else None


def _make_cluster(server: Postgres, folder: Path, user: str | None) -> None:
    secret = folder / "password"
    secret.write_text(server.password)
    if user is not None:
        os.chown(secret, pwd.getpwnam(user).pw_uid, -1)
    subprocess.run(
        [
            *(server.programs / "initdb", "-D", folder / "data", "-U", "prefect"),
            *("--auth=scram-sha-256", "--no-sync", f"--pwfile={secret}"),
        ],
        user=user,
        cwd=folder,
        stdout=subprocess.DEVNULL,
        check=True,
    )


def _start(server: Postgres, folder: Path, user: str | None) -> subprocess.Popen[bytes]:
    with (folder / "server.log").open("wb") as log:
        return subprocess.Popen(
            [
                *(server.programs / "postgres", "-D", folder / "data", "-k", folder),
                *("-h", "127.0.0.1", "-p", str(server.port)),
            ],
            user=user,
            cwd=folder,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _await_ready(server: Postgres, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    ready = [server.programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(server.port)]
    while subprocess.run(ready, check=False).returncode != 0:
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("Postgres did not start")
        time.sleep(0.1)
