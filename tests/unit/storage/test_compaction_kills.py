"""Compaction that is killed, or at work while others read.

1. Killed at any change of the store, or with SIGKILL at a random moment: no reader sees a row twice
   or not at all; the next compaction, or the next start of the run, finishes or undoes it.
2. The same of a part that is written into a compacted slot: the old rows are there, or the new.
3. Readers beside a compaction see each row once; a read that cannot be done again sees the rows
   before it, or fails.
"""

from __future__ import annotations

import multiprocessing
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from seal_core.errors import StoreError
from storage.files.base import Files
from storage.runs.compaction import compact
from storage.sql.catalog import Catalog
from storage.store import Store
from tests.unit.storage.compacting import (
    N_PARTS,
    RUN,
    answers,
    files_of,
    filled,
    refs,
    rows_of,
    settle,
    write,
)
from tests.waiting import HUNG

pytestmark = pytest.mark.long


@pytest.fixture(params=["folder", "bucket"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "bucket":
        return request.getfixturevalue("s3_root")
    return str(tmp_path / "a [b]* 'store'?")


@pytest.fixture
def folder(tmp_path: Path) -> Store:
    return filled(str(tmp_path / "store"))


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


class Dying:
    """Files that die instead of the n-th change of the store; so the changes before it are done."""

    def __init__(self, files: Files, n: int) -> None:
        self._files, self._left = files, n
        self.root = files.root

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._files, name)
        if name == "delete_many":
            return lambda paths: [self.delete(path) for path in paths]
        if name not in ("write", "create", "delete", "link", "swap"):
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
        store = Store(Dying(Store.open(str(root)).files, n))  # type: ignore[arg-type]
        try:
            work(store)
        except Killed:
            yield Store.open(str(root))
        else:
            assert n > 3
            return


def test_a_killed_compaction_neither_loses_nor_doubles(tmp_path: Path) -> None:
    """1"""
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
        assert len(files_of(store)) == 4 and store.manifests.problem(RUN) is None
        assert not (store.root / "_damaged").exists()
    assert kills >= 12


def test_a_killed_rewrite_leaves_the_old_rows_or_the_new(tmp_path: Path) -> None:
    """2"""
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


def test_parts_that_were_not_yet_deleted_are_in_no_view(root: str) -> None:
    """1"""
    store = filled(root)
    rows = {table: len(found) for table, found in rows_of(store).items()}

    def delete(path: str) -> None:
        raise Killed

    dying = Store.open(root)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(dying.files, "delete", delete)
        compact(dying)
    assert len(store.files.glob("answers/run=r/round=0/*.parquet")) == N_PARTS + 1
    with Catalog(store) as catalog:
        for table, n in rows.items():
            assert catalog.fetch(f"SELECT count(*) FROM {table}") == [(n,)]
            assert len(store.rows(table)) == n
        compact(store)
        assert catalog.fetch("SELECT count(*) FROM answers") == [(rows["answers"],)]


def _compact_for_ever(root: str, started: Any) -> None:
    store = Store.open(root)
    started.set()
    for n in range(1000):
        compact(store)
        for i in range(N_PARTS):
            write(store, i, answers(i, 4))
        write(store, N_PARTS, answers(N_PARTS, 1 + n % 3))


def test_sigkill_at_random_moments(folder: Store) -> None:
    """1"""
    for i in range(N_PARTS):
        write(folder, i, answers(i, 4))
    context, rng = multiprocessing.get_context("spawn"), random.Random(11)
    sql = "SELECT count(*), count(DISTINCT answer_id) FROM answers"
    with Catalog(folder) as catalog:
        for _ in range(8):
            started = context.Event()
            process = context.Process(target=_compact_for_ever, args=(str(folder.root), started))
            process.start()
            assert started.wait(HUNG)
            time.sleep(rng.random())
            process.kill()
            process.join()
            ((n, distinct),) = catalog.fetch(sql)
            assert n == distinct == len(folder.rows("answers")) and n >= 4 * N_PARTS
            settle(folder)
            assert catalog.fetch(sql) == [(n, n)]
            assert not [ref for ref in refs(folder) if folder.verify(ref)]


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
    """3"""
    for i in range(N_PARTS):
        write(folder, i, answers(i, 4))
    reader = Store.open(str(folder.root))
    with busy(folder), Catalog(reader) as catalog:
        for _ in range(15):
            sql = "SELECT count(*), count(DISTINCT answer_id) FROM answers"
            assert catalog.fetch(sql) == [(4 * N_PARTS, 4 * N_PARTS)]
            assert len(reader.rows("answers")) == 4 * N_PARTS


def test_a_stream_beside_a_compaction_has_all_rows_or_fails(folder: Store) -> None:
    """3"""
    n = len(folder.rows("answers"))
    with Catalog(folder) as catalog:
        with catalog.stream("FROM questions") as reader:
            assert reader.read_all().num_rows == 2 * N_PARTS
        try:
            with catalog.stream("FROM answers") as reader:
                compact(folder)
                assert reader.read_all().num_rows == n
        except StoreError as error:
            assert "ask again" in str(error)
        with catalog.stream("FROM answers") as reader:
            assert reader.read_all().num_rows == n
