"""Leases of runs in a bucket: one machine at a time, and a dead one blocks for their length only.

1. A run that another machine executes is refused; the message says where, and for how long.
2. A lease that is not renewed is taken over after its length, and not before.
3. A lease that is renewed lasts.
4. What an earlier process of this machine left is taken over at once.
5. Of many machines that want one run, one gets it, also when they take over.
6. Who lost the lease knows, and does not take away the new holder's.
7. A store in a folder needs none.
"""

from __future__ import annotations

import json
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from seal_core.errors import InputError
from storage.files.base import Files
from storage.files.local import LocalFiles
from storage.files.roots import open_files
from storage.runs.leases import Lease, run_lease

PATH = "_locks/run-demo.json"


@pytest.fixture
def files(s3_root: str) -> Files:
    return open_files(s3_root)


def other_machine(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """What follows has a cache folder, and so locks, of its own."""
    monkeypatch.setenv("SEAL_CACHE", str(folder))


def lease(files: Any, owner: str) -> Lease:
    return Lease(files, PATH, {"owner": owner, "place": owner, "host": f"host-{owner}", "pid": 7})


def test_refused_elsewhere(files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """1, 3"""
    with run_lease(files, "demo", expiry=4) as held:
        assert held is not None and json.loads(files.read(PATH))["pid"]
        other_machine(monkeypatch, tmp_path)
        with run_lease(files, "another"):
            pass
        for _ in range(6):
            time.sleep(1)
            with (
                pytest.raises(InputError, match=r"'demo' is being executed on .*try again in \d s"),
                run_lease(files, "demo", expiry=4),
            ):
                raise AssertionError("both hold the lease")
        assert not held.lost.is_set()
    assert not files.exists(PATH)
    with run_lease(files, "demo", expiry=4):
        pass


def test_taken_over_when_expired(files: Files, tmp_path: Path) -> None:
    """2, 6"""
    dead, heir = lease(files, "dead"), lease(files, "heir")
    assert dead.acquire(3, "dead") is None
    started = time.monotonic()
    holder = heir.acquire(3, "heir")
    assert holder is not None and holder["host"] == "host-dead" and 0 < holder["seconds_left"] <= 3
    while heir.acquire(3, "heir") is not None:
        time.sleep(0.2)
    assert 1.5 < time.monotonic() - started < 10
    dead.renew_every(0.01)  # It wakes up again.
    assert dead.lost.is_set()
    dead.release()
    assert json.loads(files.read(PATH))["owner"] == "heir"
    heir.release()
    assert not files.exists(PATH)


def test_left_over_on_this_machine(files: Files) -> None:
    """4"""
    with run_lease(files, "demo"):
        left = files.read(PATH)
    files.write(PATH, left)
    with run_lease(files, "demo"):
        assert files.read(PATH) != left


def contest(files: Files) -> list[bytes]:
    """Eight machines want the lease at once; the entries of those that got it."""
    rivals = [lease(files, uuid.uuid4().hex) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        holders = list(pool.map(lambda rival: rival.acquire(60, "x"), rivals))
    return [r._data for r, holder in zip(rivals, holders, strict=True) if holder is None]


def test_one_of_many(files: Files) -> None:
    """5"""
    assert contest(files) == [files.read(PATH)]
    assert contest(files) == []
    # Free for each of them, as an expired lease is.
    files.write(PATH, json.dumps({"place": "x"}).encode())
    assert contest(files) == [files.read(PATH)]


def test_a_damaged_lease_expires(files: Files) -> None:
    """2"""
    files.write(PATH, b"not JSON")
    with pytest.raises(InputError, match="another machine"), run_lease(files, "demo", expiry=60):
        raise AssertionError("the lease is not free")
    time.sleep(2.1)
    with run_lease(files, "demo", expiry=1):
        pass


def test_a_folder_needs_none(tmp_path: Path) -> None:
    """7"""
    with run_lease(LocalFiles(tmp_path), "demo") as held:
        assert held is None
    assert list(tmp_path.iterdir()) == []
