"""A store at s3://…, against a real S3 server: the command as typed.

1. A run killed with SIGKILL goes on, and its parts equal those of a run in a folder, byte for byte.
2. results, status, sql and show read it; a second run is served from the cache and writes no row.
3. While the run goes on, another machine is refused it.
4. Endpoint and credentials are nowhere in the bucket, in the caches, or in what is printed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.test_command import DEMO, SEAL, tables
from tests.s3_server import KEY, SECRET, S3Server, s3_server
from tests.waiting import HUNG

PREFIX = "team/run=x/it's [a] #store? é*"


class Machine:
    """A working folder and a cache of its own, with access to one bucket."""

    def __init__(self, server: S3Server, bucket: str, folder: Path) -> None:
        folder.mkdir()
        self.server = server
        self.folder = folder
        self.root = f"s3://{bucket}/{PREFIX}"
        self.bucket = bucket
        self.printed = ""
        cache = str(folder / "cache")
        self.environment = {**os.environ, **server.environment, "SEAL_CACHE": cache}

    def seal(self, *arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            [*SEAL, *arguments, "--store", self.root],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=HUNG,
            check=False,
        )
        self.printed += done.stdout + done.stderr
        assert done.returncode == code, done.stderr
        return done.stdout if code == 0 else done.stderr

    def start(self, line: str) -> subprocess.Popen[str]:
        """Starts the demo, and waits until a line of its progress begins so."""
        process = subprocess.Popen(
            [*SEAL, *DEMO, "--store", self.root],
            cwd=self.folder,
            env=self.environment,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert process.stderr is not None
        for found in process.stderr:
            self.printed += found
            if found.startswith(line):
                return process
        raise AssertionError(f"the run ended with {process.wait()}: {self.printed}")

    def tables(self) -> dict[str, bytes]:
        """As `tests.e2e.test_command.tables` of a folder."""
        start = f"{PREFIX}/"
        found = {k.removeprefix(start): v for k, v in self.server.objects(self.bucket).items()}
        return {
            key: data
            for key, data in found.items()
            if key.endswith(".parquet") and key.partition("/")[0] not in ("stages", "runs")
        }


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine whose demo run was killed once and refused once, and is finished."""
    folder = tmp_path_factory.mktemp("s3")
    with s3_server() as server:
        bucket = server.new_bucket()
        here = Machine(server, bucket, folder / "here")
        process = here.start("finetune heldout round_0")
        os.killpg(process.pid, signal.SIGSTOP)  # It holds its lease and does nothing.
        message = Machine(server, bucket, folder / "there").seal(*DEMO, code=2)
        assert "being executed on" in message and message.count("\n") == 1
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=HUNG)
        assert "Held-out accuracy, run demo" in here.seal(*DEMO)
        yield here


@pytest.mark.long
def test_equal_to_a_folder(machine: Machine, tmp_path: Path) -> None:
    """1, 3"""
    subprocess.run([*SEAL, *DEMO], cwd=tmp_path, check=True, capture_output=True, timeout=HUNG)
    local = tables(tmp_path / "seal-store")
    found = machine.tables()
    assert len(local) > 30 and found.keys() == local.keys()
    assert [path for path in local if found[path] != local[path]] == []


def test_reading_commands(machine: Machine) -> None:
    """2"""
    report = json.loads(machine.seal("results", "demo", "--json"))
    assert report["conditions"][0]["condition"] == "no_adaptation"
    assert "finetune round_0" in machine.seal("status")
    sql = "SELECT round, avg(gain) FROM scores GROUP BY round ORDER BY round"
    rows = json.loads(machine.seal("sql", sql, "--format", "json"))
    assert [row["round"] for row in rows] == [-1, 0, 1]
    query = "SELECT self_edit_id FROM selections WHERE kept LIMIT 1"
    (row,) = json.loads(machine.seal("sql", query, "--format", "json"))
    assert "Answers after training" in machine.seal("show", row["self_edit_id"])
    assert "honours conditional writes" in machine.seal("doctor")
    assert "outside" in machine.seal("sql", "FROM read_text('store://scores/../x')", code=2)


@pytest.mark.long
def test_a_finished_run_is_cached_on_any_machine(machine: Machine, tmp_path: Path) -> None:
    """2"""
    before = machine.server.objects(machine.bucket)
    Machine(machine.server, machine.bucket, tmp_path / "other").seal(*DEMO)
    after = machine.server.objects(machine.bucket)
    changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    assert changed == set()


def test_no_secret_is_left(machine: Machine) -> None:
    """4"""
    machine.seal("status")
    found = machine.server.objects(machine.bucket)
    local = {str(p): p.read_bytes() for p in machine.folder.rglob("*") if p.is_file()}
    everything = {**found, **local, "printed": machine.printed.encode()}
    address = machine.server.url.partition("//")[2]
    for secret in (KEY, SECRET, address):
        assert [name for name, data in everything.items() if secret.encode() in data] == []
