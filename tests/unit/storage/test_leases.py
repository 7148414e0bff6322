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
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

import storage.runs.leases
from seal_core.errors import InputError
from storage.files.base import Files
from storage.files.local import LocalFiles
from storage.files.objects import ObjectFiles, Stamp
from storage.files.roots import open_files
from storage.runs.leases import Lease, run_lease
from tests.waiting import eventually

PATH = "_locks/run-demo.json"
LENGTH = 3600
"""Seconds of a lease, so many that none expires while a test works on it."""


@pytest.fixture
def files(s3_root: str) -> Files:
    return open_files(s3_root)


def other_machine(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """What follows has a cache folder, and so locks, of its own."""
    monkeypatch.setenv("SEAL_CACHE", str(folder))


def written_at(files: ObjectFiles) -> datetime:
    return files._call("head_object", Key=files._prefixed(PATH))["LastModified"]


def age(files: ObjectFiles) -> float:
    stamp = files.stamp(PATH)
    return -1.0 if stamp is None else stamp.age


def lease(files: Any, owner: str) -> Lease:
    return Lease(files, PATH, {"owner": owner, "place": owner, "host": f"host-{owner}", "pid": 7})


def later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Objects are that much older from now on."""
    stamp = ObjectFiles.stamp

    def aged(files: ObjectFiles, path: str) -> Stamp | None:
        found = stamp(files, path)
        return found and replace(found, age=found.age + seconds)

    monkeypatch.setattr(ObjectFiles, "stamp", aged)


def test_refused_elsewhere(
    files: ObjectFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1, 3"""
    # Renewed many times a second.
    monkeypatch.setattr(storage.runs.leases, "_RENEWALS", LENGTH * 5)
    with run_lease(files, "demo", expiry=LENGTH) as held:
        assert held is not None and json.loads(files.read(PATH))["pid"]
        other_machine(monkeypatch, tmp_path)
        with run_lease(files, "another"):
            pass
        # Whoever looks for longer than a second sees that it was written anew meanwhile.
        for _ in range(3):
            written = written_at(files)
            with (
                pytest.raises(
                    InputError, match=r"'demo' is being executed on .*try again in \d+ s"
                ),
                run_lease(files, "demo", expiry=LENGTH),
            ):
                raise AssertionError("both hold the lease")
            assert eventually(lambda: written_at(files) > written)  # noqa: B023
        assert not held.lost.is_set()
    assert not files.exists(PATH)
    with run_lease(files, "demo", expiry=LENGTH):
        pass


def test_age_grows(files: ObjectFiles) -> None:
    """2"""
    files.write(PATH, b"{}")
    assert eventually(lambda: age(files) >= 1)


def test_taken_over_when_expired(files: ObjectFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """2, 6"""
    dead, heir = lease(files, "dead"), lease(files, "heir")
    assert dead.acquire(LENGTH, "dead") is None
    holder = heir.acquire(LENGTH, "heir")
    assert holder is not None and holder["host"] == "host-dead"
    later(monkeypatch, LENGTH / 2)
    assert 0 < heir.acquire(LENGTH, "heir")["seconds_left"] <= LENGTH / 2
    later(monkeypatch, LENGTH / 2)
    assert heir.acquire(LENGTH, "heir") is None
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


def test_a_damaged_lease_expires(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """2"""
    files.write(PATH, b"not JSON")
    held = pytest.raises(InputError, match="another machine")
    with held, run_lease(files, "demo", expiry=LENGTH):
        raise AssertionError("the lease is not free")
    later(monkeypatch, LENGTH)
    with run_lease(files, "demo", expiry=LENGTH):
        pass


def test_a_folder_needs_none(tmp_path: Path) -> None:
    """7"""
    with run_lease(LocalFiles(tmp_path), "demo") as held:
        assert held is None
    assert list(tmp_path.iterdir()) == []
