"""Compaction: fewer files, the same rows and refs, at whatever moment it is killed.

1. Parts become one file per partition; every table, ref, identity and adoption is as before.
2. Killed before or after any operation, no reader sees a row twice or not at all; the next
   compaction, or the next start of the run, finishes or undoes it.
3. Equal rows in a compacted slot are not written again; other rows take the place of the old.
4. A damaged compact file or record is named and set aside, and nothing else is lost.
5. A run that is being executed is skipped; a killed run keeps its last round; twice is once.
6. A part of other library versions stays valid, here and in a fork.
7. Readers wait for a compaction that goes on at the same time.
"""

from __future__ import annotations

import random
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seal_core.errors import InputError, StoreError
from seal_core.fingerprint import digest
from seal_core.types import TableRef
from storage import compaction
from storage.catalog import Catalog
from storage.compact_switch import settle_compaction
from storage.compaction import compact
from storage.executions import begin_execution, check_history, end_execution, restore_execution
from storage.files import Files
from storage.parts import encode, part_metadata, sha256_of
from storage.runs import register_run
from storage.store import Store
from storage.tables import TABLES
from tests.unit.storage.rows import ANSWER, EDIT, QUESTION, SCORE, STAGE, many

N_PARTS = 5
RUN = "r"


@pytest.fixture(params=["folder", "bucket"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "bucket":
        return request.getfixturevalue("s3_root")
    return str(tmp_path / "a [b]* 'store'?")


@pytest.fixture
def folder(tmp_path: Path) -> Store:
    return filled(str(tmp_path / "store"))


def filled(root: str, run: str = RUN, n: int = N_PARTS) -> Store:
    store = Store.open(root)
    register_run(store, run, {"seed": 1}, 2)
    for i in range(n):
        write(store, i, run=run)
    return store


def answers(i: int, n: int | None = None) -> list[Any]:
    rows = [{"answer_id": f"a{i}-{j}", "correct": None} for j in range(i if n is None else n)]
    return many(ANSWER, rows)


def write(store: Store, i: int, rows: list[Any] | None = None, run: str = RUN) -> list[TableRef]:
    """The shard `i` of a round: parts of three tables, the first of no rows."""
    where = {"run": run, "round_index": 0}
    name = digest(["shard", i])
    return [
        store.write_part("answers", answers(i) if rows is None else rows, slot=f"e/{i}",
                         identity=name, **where),
        store.write_part("questions", many(QUESTION, [{"question_id": f"q{i}"}] * 2),
                         slot=f"q/{i}", identity=name, **where),
        store.append_part("stages", [replace(STAGE, shard=i, identity=name)], **where),
    ]  # fmt: skip


def refs(store: Store, run: str = RUN) -> list[TableRef]:
    return [ref for table in TABLES for ref in store.refs(table, run)]


def rows_of(store: Store) -> dict[str, list[str]]:
    return {t: sorted(map(str, store.rows(t))) for t in ("answers", "questions", "stages")}


def sql_of(catalog: Catalog) -> dict[str, list[str]]:
    return {t: sorted(map(str, catalog.fetch(f"FROM {t}"))) for t in TABLES}


def files_of(store: Store) -> set[str]:
    return {p for t in TABLES for p in store.files.glob(f"{t}/run=*/round=*/*.parquet")}


def test_compacted_parts_are_as_before(root: str) -> None:
    """1"""
    store = filled(root)
    before, rows, parts = refs(store), rows_of(store), files_of(store)
    read = [store.read(ref) for ref in before]
    names = [store.identity_of(ref.path) for ref in before]
    with Catalog(store) as catalog:
        tables = sql_of(catalog)
        done = compact(store)
        assert sql_of(catalog) == tables
    made = [(item.table, item.parts, item.files) for item in done]
    assert made == [(table, N_PARTS, N_PARTS) for table in ("answers", "questions", "stages")]
    assert len(files_of(store)) == len(parts) - 3 * (N_PARTS - 1)
    for other in (store, Store.open(root, create=False)):
        assert refs(other) == before and rows_of(other) == rows
        assert [other.read(ref) for ref in before] == read
        assert [other.identity_of(ref.path) for ref in before] == names
        assert [other.verify(ref) for ref in before] == [None] * len(before)
        assert other.part_paths("answers", RUN) == {r.path for r in before if r.table == "answers"}
    wrong = replace(before[2], sha256="0" * 64)
    assert "digest" in (store.verify(wrong) or "") and "rows" in (
        store.verify(replace(before[2], rows=9)) or ""
    )
    assert "missing" in (store.verify(store.own_ref(before[2], "x", 0, "e/1")) or "")
    with pytest.raises(StoreError, match="missing"):
        store.read(store.own_ref(before[2], "x", 0, "e/1"))


def test_twice_is_once_and_new_parts_join(folder: Store) -> None:
    """5"""
    compact(folder)
    before = files_of(folder)
    assert compact(folder, RUN) == [] and files_of(folder) == before
    write(folder, N_PARTS)
    rows = rows_of(folder)
    done = compact(folder, RUN)
    assert [(item.parts, item.files) for item in done] == [(N_PARTS + 1, 2)] * 3
    assert rows_of(folder) == rows and len(files_of(folder)) == len(before)
    assert len(list((folder.root / "_compact").rglob("*.json"))) == 3


def test_a_full_file_is_left_alone(folder: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """5"""
    monkeypatch.setattr(compaction, "MAX_ROWS", 4)
    rows = rows_of(folder)
    done = [item for item in compact(folder) if item.table == "answers"]
    assert [item.rows for item in done] == [10] or all(item.rows >= 4 for item in done)
    for i in range(3):
        write(folder, N_PARTS + i)
        rows = rows_of(folder)
        compact(folder)
        assert rows_of(folder) == rows and compact(folder) == []


def test_history_of_executions(folder: Store) -> None:
    """1"""
    ref = folder.refs("stages", RUN)[0]
    compact(folder)
    said: list[str] = []
    check_history(folder, RUN, said.append)
    row = folder.read(ref)[0]
    plain = {name: getattr(row, name) for name in row.__slots__}
    assert restore_execution(folder, ref, RUN, 0, plain) is None
    assert folder.append_part("stages", [row], run=RUN, round_index=0) == ref
    assert said == [] and len(folder.rows("stages", RUN)) == N_PARTS
    damage(next(path for path in files_of(folder) if "stages" in path), folder)
    settle_compaction(folder, RUN, said.append)
    assert len(said) == 1 and "stages" in said[0]
    assert "written again" in (restore_execution(folder, ref, RUN, 0, plain) or "")
    assert [row] == [found for _, found in folder.rows("stages", RUN)]


def test_a_fork_of_compacted_parts_has_ordinary_ones(root: str) -> None:
    """1"""
    store = filled(root)
    before = store.refs("answers", RUN)
    data = [store.files.read(ref.path) for ref in before]
    compact(store)
    for i, ref in enumerate(before):
        own = store.adopt(ref, "fork", 2, f"e/{i}")
        assert store.files.read(own.path) == data[i] and store.verify(own) is None
        assert own == store.adopt(ref, "fork", 2, f"e/{i}") == store.adopt(own, "fork", 2, f"e/{i}")
    with pytest.raises(StoreError, match="missing"):
        store.adopt(store.own_ref(before[1], "none", 0, "e/1"), "fork", 2, "e/1x")
    # And a compacted slot takes a part of another run.
    register_run(store, "fork", {"seed": 1}, 2)
    compact(store, "fork")
    other = store.write_part("answers", answers(9), run="x", round_index=0, slot="e/2")
    own = store.adopt(other, "fork", 2, "e/2")
    assert store.verify(own) is None
    n = sum(ref.rows for i, ref in enumerate(before) if i != 2) + other.rows
    assert len(store.rows("answers", "fork")) == n


def test_writing_into_a_compacted_slot(root: str) -> None:
    """3"""
    store = filled(root)
    compact(store)
    files = files_of(store)
    for i in range(N_PARTS):
        write(store, i)
    assert files_of(store) == files
    with Catalog(store) as catalog:
        for i in (2, 0, 4):
            kept = [r for r in store.refs("answers", RUN)]
            (ref, *_) = write(store, i, answers(i, 7))
            assert store.read(ref) == answers(i, 7) and store.verify(ref) is None
            others = [r for r in kept if r.path != ref.path]
            assert [store.verify(r) for r in others] == [None] * len(others)
            n = sum(r.rows for r in store.refs("answers", RUN))
            assert catalog.fetch("SELECT count(*), count(DISTINCT answer_id) FROM answers") == [
                (n, n)
            ]
    assert not store.files.glob("_compacting/*,*,*,*")


# Kills


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


class Dying:
    """Files that die instead of the n-th change of the store; so the changes before it are done."""

    def __init__(self, files: Files, n: int) -> None:
        self._files, self._left = files, n

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._files, name)
        if name not in ("write", "create", "delete", "link"):
            return found

        def change(*arguments: Any) -> Any:
            self._left -= 1
            if self._left <= 0:
                raise Killed
            return found(*arguments)

        return change


def kill_everywhere(whole: Store, work: Callable[[Store], Any], tmp_path: Path) -> Iterator[Store]:
    """Copies of a store in which `work` was killed, at every change that it makes."""
    for n in range(1, 1000):
        root = shutil.copytree(whole.root, tmp_path / f"killed-{n}")
        store = Store.open(str(root))
        store.files = Dying(store.files, n)  # type: ignore[assignment]
        try:
            work(store)
        except Killed:
            yield Store.open(str(root))
        else:
            assert n > 5
            return


def test_a_killed_compaction_neither_loses_nor_doubles(tmp_path: Path) -> None:
    """2"""
    whole = filled(str(tmp_path / "whole"), n=2)
    compact(whole)  # So that the next one replaces a compact file too.
    write(whole, 2)
    rows, all_refs = rows_of(whole), refs(whole)
    steps: list[Callable[[Store], Any]] = [lambda store: None, settle, compact]
    kills = 0
    for store in kill_everywhere(whole, compact, tmp_path):
        kills += 1
        with Catalog(store) as catalog:
            for step in steps:
                step(store)
                for table, expected in rows.items():
                    found = catalog.fetch(f"SELECT count(*), count(DISTINCT t) FROM {table} t")
                    assert found == [(len(expected), len(set(expected)))]
                assert rows_of(store) == rows and refs(store) == all_refs
                assert not [problem for ref in all_refs if (problem := store.verify(ref))]
        assert len(files_of(store)) == 4 and not store.files.glob("_compacting/*,*,*,*")
        assert not (store.root / "_damaged").exists()
    assert kills > 30


def settle(store: Store) -> None:
    said: list[str] = []
    settle_compaction(store, RUN, said.append)
    assert said == []


def test_a_killed_rewrite_leaves_the_old_rows_or_the_new(tmp_path: Path) -> None:
    """2, 3"""
    whole = filled(str(tmp_path / "whole"))
    compact(whole)

    def work(store: Store) -> None:
        write(store, 3, answers(3, 8))

    new = Store.open(str(shutil.copytree(whole.root, tmp_path / "new")))
    work(new)
    allowed = [rows_of(whole), rows_of(new)]
    seen = []
    for store in kill_everywhere(whole, work, tmp_path):
        found = rows_of(store)
        assert found in allowed
        with Catalog(store) as catalog:
            n = len(found["answers"])
            sql = "SELECT count(*), count(DISTINCT answer_id) FROM answers"
            assert catalog.fetch(sql) == [(n, n)]
        settle(store)
        assert rows_of(store) == found
        seen.append(allowed.index(found))
        work(store)
        assert rows_of(store) == allowed[1]
    assert set(seen) == {0, 1}


# Damage


def damage(path: str, store: Store, place: float = 0.5) -> None:
    data = bytearray(store.files.read(path))
    data[int(len(data) * place)] ^= 4
    store.files.write(path, bytes(data))


@pytest.mark.parametrize("what", ["flip", "truncate", "delete", "record", "no record"])
def test_damage_is_named_and_set_aside(root: str, what: str) -> None:
    """4"""
    store = filled(root)
    compact(store)
    before = store.refs("answers", RUN)
    (path,) = (p for p in files_of(store) if p.startswith("answers/"))
    (record,) = store.files.glob(f"_compact/{RUN}/answers/0/*.json")
    assert store.verify(before[0]) is None
    if what == "flip":
        damage(path, store)
        assert "digest" in (store.verify(before[1]) or "")
        with pytest.raises(StoreError, match="digest"):
            store.read(before[1])
    elif what == "truncate":
        store.files.write(path, store.files.read(path)[:-4])
    elif what == "record":
        damage(record, store)
    else:
        store.files.delete(path if what == "delete" else record)
    assert all(store.verify(ref) for ref in before)
    said: list[str] = []
    settle_compaction(store, RUN, said.append)
    assert len(said) == 1 and (path in said[0] or record in said[0])
    assert [row for _, row in store.rows("answers", RUN)] == []
    assert len(store.rows("questions", RUN)) == 2 * N_PARTS
    kept = store.files.glob("_damaged/*")
    assert bool(kept) and not store.files.glob(f"_compact/{RUN}/answers/0/*.json")
    for i in range(N_PARTS):
        write(store, i)
    assert store.refs("answers", RUN) == before
    settle_compaction(store, RUN, said.append)
    assert len(said) == 1


def test_a_slot_of_a_damaged_file_is_written_again(folder: Store) -> None:
    """4"""
    compact(folder)
    damage(next(p for p in files_of(folder) if p.startswith("answers/")), folder)
    (ref, *_) = write(folder, 3)
    assert folder.verify(ref) is None and len(folder.rows("answers", RUN)) == 3
    assert len(list((folder.root / "_damaged").iterdir())) == 2


def test_random_damage_never_gives_other_rows(folder: Store) -> None:
    """4"""
    compact(folder)
    good = {ref: folder.read(ref) for ref in refs(folder)}
    compacts = sorted(p for p in files_of(folder) if "compact" in p)
    rng = random.Random(5)
    for _ in range(60):
        path = rng.choice(compacts)
        data = folder.files.read(path)
        damage(path, folder, rng.random())
        for ref, rows in good.items():
            if folder.verify(ref) is None:
                assert folder.read(ref) == rows
            else:
                assert ref.path.rpartition("/")[0] == path.rpartition("/")[0]
        folder.files.write(path, data)
    assert not [ref for ref in good if folder.verify(ref)]


def test_a_damaged_part_is_left_as_it_is(folder: Store) -> None:
    """4"""
    ref = folder.refs("answers", RUN)[2]
    data = folder.files.read(ref.path)
    folder.files.write(ref.path, b"PAR1")
    said: list[str] = []
    done = compact(folder, note=said.append)
    assert [item.parts for item in done] == [N_PARTS - 1, N_PARTS, N_PARTS]
    assert len(said) == 1 and ref.path in said[0] and folder.files.read(ref.path) == b"PAR1"
    folder.files.write(ref.path, data)
    assert folder.verify(ref) is None


# Which runs


def test_a_run_that_is_executed_is_skipped(folder: Store) -> None:
    """5"""
    filled(str(folder.root), "other")
    said: list[str] = []
    with folder.lock(f"run-{RUN}"):
        done = compact(folder, note=said.append)
        assert {item.run for item in done} == {"other"}
        assert len(said) == 1 and "'r' is being executed" in said[0]
        with pytest.raises(InputError, match="being executed"):
            compact(folder, RUN)
    assert {item.run for item in compact(folder)} == {RUN}
    with pytest.raises(InputError, match="no run 'none'"):
        compact(folder, "none")


def test_the_last_round_of_a_killed_run_is_open(folder: Store) -> None:
    """5"""
    note = begin_execution(folder, RUN, 0, STAGE)
    assert compact(folder) == []
    for i in range(2):
        folder.write_part("scores", [SCORE], run=RUN, round_index=1, slot=f"s/{i}")
        folder.write_part("self_edits", [EDIT], run=RUN, round_index=-1, slot=f"s/{i}")
    assert {(item.table, item.round_index) for item in compact(folder)} == {
        ("answers", 0), ("questions", 0), ("stages", 0),
    }  # fmt: skip
    end_execution(folder, RUN, 0, STAGE, note)
    done = compact(folder)
    assert {(item.table, item.round_index) for item in done} >= {("scores", 1), ("self_edits", -1)}


# Other versions


def foreign(store: Store, i: int) -> TableRef:
    """A part as another version of the libraries would have written it."""
    ref = store.write_part("answers", answers(i), run=RUN, round_index=0, slot=f"e/{i}")
    rows = TABLES["answers"].to_arrow(answers(i))
    sink = pa.BufferOutputStream()
    pq.write_table(rows.replace_schema_metadata(part_metadata("answers", "abc")), sink)
    data = sink.getvalue().to_pybytes()
    assert data != encode(rows, part_metadata("answers", "abc"))
    store.files.write(ref.path, data)
    return replace(ref, sha256=sha256_of(data))


def test_parts_of_other_library_versions_stay_valid(folder: Store) -> None:
    """6"""
    old = [foreign(folder, i) for i in range(N_PARTS)]
    compact(folder)
    assert not [ref for ref in old if folder.verify(ref)]
    register_run(folder, "fork", {"seed": 2}, 2)
    own = [folder.adopt(ref, "fork", 0, f"e/{i}") for i, ref in enumerate(old)]
    assert own == [folder.adopt(ref, "fork", 0, f"e/{i}") for i, ref in enumerate(old)]
    for merged in (False, True):
        if merged:
            write(folder, 9, run="fork")
            compact(folder, "fork")
        assert not [ref for ref in own if folder.verify(ref)]
        assert [folder.read(ref) for ref in own] == [folder.read(ref) for ref in old]
        assert {folder.identity_of(ref.path) for ref in own} == {"abc"}
    n = 9 + sum(ref.rows for ref in own)
    with Catalog(folder) as catalog:
        assert catalog.fetch("SELECT count(*) FROM answers WHERE run = 'fork'") == [(n,)]
    # In the place of other rows, in a compacted slot.
    again = folder.adopt(old[4], "fork", 0, "e/9")
    assert folder.verify(again) is None
    assert len(folder.rows("answers", "fork")) == n - 9 + old[4].rows


def test_a_part_with_other_columns_is_left_as_it_is(folder: Store) -> None:
    """6"""
    ref = folder.refs("answers", RUN)[2]
    path = folder.root / ref.path
    pq.write_table(pq.ParquetFile(path).read().drop_columns(["text"]), path)
    said: list[str] = []
    rows = rows_of(folder)
    compact(folder, note=said.append)
    assert len(said) == 1 and "another version" in said[0] and path.exists()
    assert rows_of(folder) == rows


# At the same time


@contextmanager
def busy(store: Store) -> Iterator[None]:
    """Rewrites and compacts without a pause, in another thread."""
    ended = threading.Event()
    errors: list[BaseException] = []

    def work() -> None:
        try:
            while not ended.is_set():
                for i in range(N_PARTS):
                    write(store, i, answers(i, 4))
                compact(store)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    assert errors == []


def test_readers_beside_a_compaction(folder: Store) -> None:
    """7"""
    for i in range(N_PARTS):
        write(folder, i, answers(i, 4))
    reader = Store.open(str(folder.root))
    with busy(folder), Catalog(reader) as catalog:
        for _ in range(15):
            sql = "SELECT count(*), count(DISTINCT answer_id) FROM answers"
            assert catalog.fetch(sql) == [(4 * N_PARTS, 4 * N_PARTS)]
            assert len(reader.rows("answers")) == 4 * N_PARTS
