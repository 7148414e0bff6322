"""Readers whose every step a compaction can come between.

1. A query sees each row once if the manifest is swapped after the files were listed.
2. A compacted file that counts and is missing ends a query.
3. A file that is looked for while it is compacted again is found.
4. A query over object storage goes on if files are compacted between listing and reading them.
5. Other bytes under a ref's path are neither read nor taken over; those of another version are.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seal_core.errors import StoreError
from storage.runs.compaction import compact
from storage.sql.catalog import Catalog
from storage.store import Store
from storage.tables.compacted import CompactedReader
from storage.tables.manifest import Compacted, Manifests
from tests.unit.storage.compacting import N_PARTS, RUN, answers, filled, rows_of, write


@pytest.fixture
def folder(tmp_path: Path) -> Store:
    return filled(str(tmp_path / "store"))


@pytest.mark.parametrize("compacted", [False, True])
def test_a_swap_after_the_listing(
    folder: Store, monkeypatch: pytest.MonkeyPatch, compacted: bool
) -> None:
    """1"""
    if compacted:
        compact(folder)
        write(folder, N_PARTS)
    expected, looks, versions = rows_of(folder), [0], Manifests._versions

    def swapped_after_the_second_look(self: Manifests, run: str | None) -> dict[str, str]:
        found = versions(self, run)
        if self is reader.manifests:
            looks[0] += 1
            if looks[0] == 2:
                compact(folder)
        return found

    for read in ("rows", "sql"):
        reader = Store.open(str(folder.root))
        with monkeypatch.context() as patch:
            patch.setattr(Manifests, "_versions", swapped_after_the_second_look)
            looks[0] = 0
            if read == "rows":
                assert sorted(map(str, reader.rows("answers"))) == expected["answers"]
            else:
                with Catalog(reader) as catalog:
                    ((n,),) = catalog.fetch("SELECT count(*) FROM answers")
                    assert n == len(expected["answers"])
        assert looks[0] >= 2
        write(folder, N_PARTS + 1 + len(read))
        expected = rows_of(folder)


def test_a_compacted_file_that_is_gone_is_missed(folder: Store) -> None:
    """2"""
    compact(folder)
    path = next(p for p in folder.manifests.get(RUN).by_path if p.startswith("answers/"))
    folder.files.delete(path)
    with pytest.raises(StoreError, match=f"{path}: the compacted file is missing: resume the run"):
        folder.rows("answers")
    with Catalog(folder) as catalog:
        with pytest.raises(StoreError, match="is missing"):
            catalog.fetch("SELECT count(*) FROM answers")
        assert catalog.fetch("SELECT count(*) FROM questions") == [(2 * N_PARTS,)]


USES: dict[str, Callable[[Store, Any], Any]] = {
    "verify": lambda store, ref: store.verify(ref),
    "read": lambda store, ref: store.read(ref),
    "adopt": lambda store, ref: store.adopt(ref, "fork", 0, "e/3").sha256,
}


@pytest.mark.parametrize("step", ["problem", "rows"])
@pytest.mark.parametrize("use", USES)
def test_a_file_is_found_while_it_is_compacted_again(
    folder: Store, monkeypatch: pytest.MonkeyPatch, use: str, step: str
) -> None:
    """3"""
    compact(folder)
    ref = next(ref for ref in folder.refs("answers", RUN) if ref.rows == 3)
    expected = USES[use](Store.open(str(folder.root)), ref)
    write(folder, N_PARTS)
    reader, looked = Store.open(str(folder.root)), getattr(CompactedReader, step)
    left = iter([True])

    def just_before_compacted(self: CompactedReader, file: Compacted, *rest: Any) -> Any:
        if self is reader.compacted and next(left, False):
            compact(folder)
        return looked(self, file, *rest)

    monkeypatch.setattr(CompactedReader, step, just_before_compacted)
    assert USES[use](reader, ref) == expected


def test_a_query_over_objects_that_are_just_compacted(
    s3_root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """4"""
    store = filled(s3_root)
    n, reader = len(rows_of(store)["answers"]), Store.open(s3_root)
    read_many, left = reader.files.read_many, iter([True])

    def just_before_compacted(paths: Any) -> list[bytes]:
        if next(left, False):
            compact(store)
        return read_many(paths)

    monkeypatch.setattr(reader.files, "read_many", just_before_compacted)
    with Catalog(reader) as catalog:
        assert catalog.fetch("SELECT count(*) FROM answers") == [(n,)]
    assert next(left, None) is None


@pytest.mark.parametrize("compacted", [False, True])
def test_other_bytes_under_a_path(folder: Store, compacted: bool) -> None:
    """5"""
    (ref, *_) = write(folder, 3)
    if compacted:
        compact(folder)
    write(folder, 3, answers(3, 7))
    for use in (folder.read, lambda ref: folder.adopt(ref, "fork", 0, "e/3")):
        with pytest.raises(StoreError, match=f"{ref.path}: .*digest does.*: resume the run"):
            use(ref)
    assert folder.files.glob("answers/run=fork/*/*") == []
