"""Compaction: fewer files, the same rows and refs.

1. Parts become one file per partition; every table, ref, identity and adoption is as before.
2. Equal rows in a compacted slot are not written again; other rows take the place of the old.
3. A run that is being executed is skipped; a killed run keeps its last round; twice is once.
4. A part of other library versions stays valid, here and in a fork.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seal_core.errors import InputError, StoreError
from seal_core.types import TableRef
from storage.runs import compaction
from storage.runs.compaction import compact, recover
from storage.runs.history import (
    begin_execution,
    end_execution,
    recover_executions,
    restore_executions,
)
from storage.runs.registry import register_run
from storage.sql.catalog import Catalog
from storage.store import Store
from storage.tables.encoding import encode, part_metadata, sha256_of
from storage.tables.schema import TABLES
from tests.unit.storage.compacting import (
    N_PARTS,
    RUN,
    answers,
    damage,
    files_of,
    filled,
    refs,
    rows_of,
    sql_of,
    write,
)
from tests.unit.storage.rows import EDIT, SCORE, STAGE


@pytest.fixture(params=["folder", "bucket"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "bucket":
        return request.getfixturevalue("s3_root")
    return str(tmp_path / "a [b]* 'store'?")


@pytest.fixture
def folder(tmp_path: Path) -> Store:
    return filled(str(tmp_path / "store"))


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
    """3"""
    compact(folder)
    before = files_of(folder)
    assert compact(folder, RUN) == [] and files_of(folder) == before
    write(folder, N_PARTS)
    rows = rows_of(folder)
    done = compact(folder, RUN)
    assert [(item.parts, item.files) for item in done] == [(N_PARTS + 1, 2)] * 3
    assert rows_of(folder) == rows and len(files_of(folder)) == len(before)
    assert len(folder.manifests.get(RUN).files) == 3


def test_a_full_file_is_left_alone(folder: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """3"""
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
    recover_executions(folder, RUN, said.append)
    row = folder.read(ref)[0]
    assert restore_executions(folder, RUN, 0, [row]) is None
    assert folder.append_part("stages", [row], run=RUN, round_index=0) == ref
    assert said == [] and len(folder.rows("stages", RUN)) == N_PARTS
    damage(next(path for path in files_of(folder) if "stages" in path), folder)
    recover(folder, RUN, said.append)
    assert len(said) == 1 and "stages" in said[0]
    assert restore_executions(folder, RUN, 0, [row]) == (
        f"{ref.path}: 1 executions were missing in the history; written again"
    )
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
    """2"""
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
    assert store.manifests.problem(RUN) is None


def test_a_run_that_is_executed_is_skipped(folder: Store) -> None:
    """3"""
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
    """3"""
    note = begin_execution(folder, RUN, 0, replace(STAGE, ended_at=None))
    assert compact(folder) == []
    for i in range(2):
        folder.write_part("scores", [SCORE], run=RUN, round_index=1, slot=f"s/{i}")
        folder.write_part("self_edits", [EDIT], run=RUN, round_index=-1, slot=f"s/{i}")
    assert {(item.table, item.round_index) for item in compact(folder)} == {
        ("answers", 0), ("questions", 0), ("stages", 0),
    }  # fmt: skip
    end_execution(folder, 0, STAGE, note)
    done = compact(folder)
    assert {(item.table, item.round_index) for item in done} >= {("scores", 1), ("self_edits", -1)}


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
    """4"""
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
    """4"""
    ref = folder.refs("answers", RUN)[2]
    path = folder.root / ref.path
    pq.write_table(pq.ParquetFile(path).read().drop_columns(["text"]), path)
    said: list[str] = []
    rows = rows_of(folder)
    compact(folder, note=said.append)
    assert len(said) == 1 and "another version" in said[0] and path.exists()
    assert rows_of(folder) == rows
