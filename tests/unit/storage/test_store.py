"""The store: parts are whole or absent, equal rows are equal bytes, damage is found.

1. What is written is read back, in order, in every table; no rows is a part too.
2. The same identity replaces, never doubles; equal rows give equal bytes.
3. A leftover temporary file is ignored; an interrupted write leaves the old part.
4. A flipped bit, a missing part and a wrong row count are found.
5. Names never leave the store's folder.
6. A part is adopted into another run, once, and outlives the run it came from.
7. Two processes that write the same part leave one whole part.
8. A root that cannot be a store is refused with its fix.
9. Whatever byte of a part is damaged: who reads it without its digest gets a StoreError or rows.
10. Reading starts no thread: Arrow's abort the interpreter when it ends, now and then.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from seal_core.errors import InputError, StoreError
from seal_core.fingerprint import digest
from seal_core.types import TableRef
from storage.store import Store
from storage.tables.paths import result_record
from tests.unit.storage.rows import (
    ADAPTER,
    ANSWER,
    CONTINUAL,
    EDIT,
    PICK,
    POLICY,
    PROBLEM,
    QUESTION,
    SCORE,
    STAGE,
    put,
)  # fmt: skip

ID = digest("shard")
ROWS = {
    "problems": PROBLEM, "questions": QUESTION, "self_edits": EDIT, "adapters": ADAPTER,
    "answers": ANSWER, "scores": SCORE, "selections": PICK, "policies": POLICY, "stages": STAGE,
    "continual": CONTINUAL,
}  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(str(tmp_path / "store"))


def write(store: Store, *rows: object, run: str = "r") -> TableRef:
    return store.write_part("self_edits", rows, run=run, round_index=0, slot="a/0", identity=ID)


@pytest.mark.parametrize("table", ROWS)
def test_round_trip(store: Store, table: str) -> None:
    rows = [ROWS[table]] * 3
    ref = put(store, table, rows)
    assert store.read(ref) == rows and ref.rows == 3 and store.verify(ref) is None
    assert store.read(put(store, table, [])) == []


def test_the_same_identity_replaces_and_is_deterministic(store: Store) -> None:
    first = write(store, EDIT)
    before = store.files.read(first.path)
    assert write(store, EDIT) == first and store.files.read(first.path) == before
    second = write(store, EDIT, replace(EDIT, self_edit_id="e1"))
    assert second.path == first.path and len(store.rows("self_edits")) == 2


def test_metadata_names_version_and_identity(store: Store) -> None:
    found = pq.read_schema(store.root / write(store, EDIT).path).metadata
    assert found[b"seal.identity"] == ID.encode() and found[b"seal.table_version"] == b"3"


def test_rows_of_another_table_are_refused(store: Store) -> None:
    with pytest.raises(TypeError, match="SelfEdit"):
        write(store, SCORE)


def test_interrupted_write(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    ref = write(store, EDIT)
    folder = (store.root / ref.path).parent
    (folder / f".{Path(ref.path).name}.0.tmp").write_bytes(b"half")
    assert len(store.rows("self_edits")) == 1

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write(store, EDIT, EDIT)
    assert store.verify(ref) is None and store.read(ref) == [EDIT]


def test_damage_is_found(store: Store) -> None:
    ref = write(store, EDIT)
    assert "rows" in (store.verify(replace(ref, rows=2)) or "")
    path = store.root / ref.path
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert "digest" in (store.verify(ref) or "")
    path.write_bytes(b"PAR1")
    with pytest.raises(StoreError, match="damaged"):
        store.read(ref)
    path.unlink()
    assert "missing" in (store.verify(ref) or "")


def test_any_damage_is_one_error(store: Store) -> None:
    ref = write(store, EDIT)
    path, whole = store.root / ref.path, store.files.read(ref.path)
    messages = []
    for at in range(0, len(whole), 3):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        store.identity_of(ref.path)
        for read in (lambda: store.refs("self_edits", "r"), lambda: store.rows("self_edits")):
            try:
                read()
            except StoreError as error:
                messages.append(str(error))
    assert len(messages) > len(whole) / 6
    assert all(message.startswith(f"{ref.path} is damaged (") for message in messages)


def test_names_stay_inside(store: Store, tmp_path: Path) -> None:
    rng = random.Random(0)
    letters = "ab./\\%~ \n\0é'\"*?[]{}:$-_=" + chr(0x1F600)
    names = ["", ".", "..", "../x", "a/b", "a\n", "-a", "a" * 101, "run=x"]
    names += ["".join(rng.choices(letters, k=rng.randint(1, 12))) for _ in range(300)]
    for name in names:
        try:
            ref = write(store, EDIT, run=name)
        except InputError:
            pass
        else:
            assert store.read(ref) == [EDIT] and f"/run={name}/" in ref.path
        with store.lock(name):
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
    for path in ("/etc/passwd", "../x", "self_edits/run=r/round=0/../../x.parquet"):
        with pytest.raises(StoreError, match="no part"):
            store.read(TableRef("self_edits", path, "", 0, ""))
    ref = store.write_part("scores", [], run="r", round_index=0, slot="../../x")
    assert re.fullmatch(r"scores/run=r/round=0/part-[0-9a-f]{16}\.parquet", ref.path)
    for bad in ("../../x", "", "A" * 64):
        with pytest.raises(ValueError, match="hex"):
            result_record(bad)


def test_adopt(store: Store) -> None:
    ref = write(store, EDIT)
    assert store.adopt(ref, "r", 0, "a/0") == ref
    fork = store.adopt(ref, "fork", 2, "a/0")
    assert fork == store.adopt(ref, "fork", 2, "a/0") and "run=fork/round=2" in fork.path
    (store.root / ref.path).unlink()
    assert store.verify(fork) is None
    with pytest.raises(StoreError, match="missing"):
        store.adopt(ref, "other", 0, "a/0")


def _hammer(root: str) -> None:
    store = Store.open(root)
    for _ in range(15):
        put(store, "self_edits", [EDIT] * 50)


def test_two_processes_write_at_once(store: Store) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_hammer, args=(str(store.root),)) for _ in range(2)]
    for process in processes:
        process.start()
    ref = put(store, "self_edits", [EDIT] * 50)
    while any(process.is_alive() for process in processes):
        assert store.verify(ref) is None
    assert [process.exitcode for process in processes] == [0, 0]
    assert [p.name for p in (store.root / ref.path).parent.iterdir()] == [Path(ref.path).name]


def test_lock_is_exclusive(store: Store) -> None:
    with (
        store.lock("run"),
        pytest.raises(InputError, match="busy now"),
        store.lock("run", timeout=0, busy="busy now"),
    ):
        raise AssertionError("both hold the lock")


def test_roots_that_are_no_store(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("")
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "store.json").write_text('{"format": 99}')
    cases = {"file": "is a file", "full": "not empty", "new": "format 99", "file/sub": "writable"}
    for name, message in cases.items():
        with pytest.raises(InputError, match=message):
            Store.open(str(tmp_path / name))
    with pytest.raises(InputError, match=r"there is no store at .*seal run"):
        Store.open(str(tmp_path / "none"), create=False)
    with pytest.raises(InputError, match="not a SEAL store"):
        Store.open(str(tmp_path / "full"), create=False)
    with pytest.raises(InputError, match="folder"):
        Store.open("memory://x")
    url = Store.open(f"file://{tmp_path}/url")
    assert Store.open(str(tmp_path / "url"), create=False).root == url.root


def test_reading_starts_no_thread(store: Store) -> None:
    """10"""
    ref = write(store, *(replace(EDIT, self_edit_id=f"edit-{i}") for i in range(1000)))
    code = f"""
import os
import pyarrow, pyarrow.parquet
from seal_core.types import TableRef
from storage.store import Store
store = Store.open({str(store.root)!r}, create=False)
before = os.listdir("/proc/self/task")
assert len(store.read({ref!r})) == 1000
assert os.listdir("/proc/self/task") == before
"""
    subprocess.run([sys.executable, "-c", code], check=True)
