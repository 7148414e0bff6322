"""Damage to compacted files and to manifests.

1. A damaged file is named and quarantined, and nothing else is lost; refs are valid again once the
   rows are.
2. A damaged manifest is named and written again from the files; no row is lost or doubled before.
3. A manifest cannot name files outside of its partition.
4. A manifest that is older than its files, from a copy or a backup, costs no row.
"""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from seal_core.errors import StoreError
from storage.files.json_records import read_record, write_record
from storage.runs.compaction import compact, recover
from storage.sql.catalog import Catalog
from storage.store import Store
from tests.long import first_of
from tests.unit.storage.compacting import (
    N_PARTS,
    RUN,
    damage,
    files_of,
    filled,
    refs,
    rows_of,
    write,
)
from tests.unit.storage.rows import SCORE, put


@pytest.fixture(params=["folder", "bucket"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "bucket":
        return request.getfixturevalue("s3_root")
    return str(tmp_path / "a [b]* 'store'?")


@pytest.fixture
def folder(tmp_path: Path) -> Store:
    return filled(str(tmp_path / "store"))


@pytest.mark.parametrize("what", ["flip", "truncate", "delete"])
def test_damage_is_named_and_set_aside(root: str, what: str) -> None:
    """1"""
    store = filled(root)
    compact(store)
    before = store.refs("answers", RUN)
    (path,) = (p for p in files_of(store) if p.startswith("answers/"))
    assert store.verify(before[0]) is None
    if what == "flip":
        damage(path, store)
        assert "digest" in (store.verify(before[1]) or "")
        with pytest.raises(StoreError, match="digest"):
            store.read(before[1])
    elif what == "truncate":
        store.files.write(path, store.files.read(path)[:-4])
    else:
        store.files.delete(path)
    assert all(store.verify(ref) for ref in before)
    said: list[str] = []
    recover(store, RUN, said.append)
    assert len(said) == 1 and path in said[0]
    assert [row for _, row in store.rows("answers", RUN)] == []
    assert len(store.rows("questions", RUN)) == 2 * N_PARTS
    assert bool(store.files.glob("_damaged/*")) == (what != "delete")
    assert path not in store.manifests.get(RUN).by_path
    for i in range(N_PARTS):
        write(store, i)
    assert store.refs("answers", RUN) == before
    recover(store, RUN, said.append)
    assert len(said) == 1


def test_a_slot_of_a_damaged_file_is_written_again(folder: Store) -> None:
    """1"""
    compact(folder)
    damage(next(p for p in files_of(folder) if p.startswith("answers/")), folder)
    (ref, *_) = write(folder, 3)
    assert folder.verify(ref) is None and len(folder.rows("answers", RUN)) == 3
    assert len(list((folder.root / "_damaged").iterdir())) == 1
    for damaged in (b"one", b"other"):
        folder.files.write(ref.path, damaged)
        folder.quarantine(ref.path)
    assert len(list((folder.root / "_damaged").iterdir())) == 3


def test_random_damage_never_gives_other_rows(folder: Store) -> None:
    """1"""
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
    """1"""
    ref = folder.refs("answers", RUN)[2]
    data = folder.files.read(ref.path)
    folder.files.write(ref.path, b"PAR1")
    said: list[str] = []
    done = compact(folder, note=said.append)
    assert [item.parts for item in done] == [N_PARTS - 1, N_PARTS, N_PARTS]
    assert len(said) == 1 and ref.path in said[0] and folder.files.read(ref.path) == b"PAR1"
    folder.files.write(ref.path, data)
    assert folder.verify(ref) is None


@pytest.mark.parametrize("what", first_of("flip", "truncate", "delete"))
@pytest.mark.parametrize("killed", first_of(True, False))
def test_a_damaged_manifest_is_written_again(root: str, what: str, killed: bool) -> None:
    """2"""
    store = filled(root)
    compact(store)
    write(store, N_PARTS)
    rows, all_refs, path = rows_of(store), refs(store), f"_manifests/{RUN}.json"
    if killed:  # After the swap, so that old and new files are both there.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(store.files, "delete_many", lambda paths: None)
            compact(store)
    if what == "flip":
        damage(path, store)
    elif what == "truncate":
        store.files.write(path, store.files.read(path)[:-4])
    else:
        store.files.delete(path)
    other = Store.open(root, create=False)
    with Catalog(other) as catalog:
        assert catalog.fetch("SELECT count(*) FROM answers") == [(len(rows["answers"]),)]
    assert rows_of(other) == rows and not [ref for ref in all_refs if other.verify(ref)]
    assert path in (other.manifests.problem(RUN) or "")
    said: list[str] = []
    recover(other, RUN, said.append)
    assert len(said) == 1 and path in said[0]
    assert rows_of(other) == rows and refs(other) == all_refs
    assert other.manifests.problem(RUN) is None and not other.files.glob("_damaged/*")
    assert len(files_of(other)) == (4 if killed else 7)


def test_a_damaged_manifest_and_a_damaged_file(folder: Store) -> None:
    """1, 2"""
    compact(folder)
    folder.files.delete(f"_manifests/{RUN}.json")
    path = next(p for p in files_of(folder) if p.startswith("answers/"))
    damage(path, folder)
    said: list[str] = []
    recover(folder, RUN, said.append)
    assert len(said) == 2 and path in said[1] and folder.files.glob("_damaged/answers*")
    assert folder.rows("answers") == [] and len(folder.rows("questions")) == 2 * N_PARTS


def test_a_manifest_names_no_other_files(folder: Store) -> None:
    """3"""
    compact(folder)
    record = f"_manifests/{RUN}.json"
    good = read_record(folder.files, record)
    file = good["files"][0]
    (other,) = folder.files.glob("runs/*/*/*.parquet")
    rows = rows_of(folder)
    for path in ("store.json", "../x", "/etc/passwd", other, file["members"][0]["path"] + "x"):
        for changed in (
            {**file, "members": [{**file["members"][0], "path": path}]},
            {**file, "path": path},
        ):
            write_record(folder.files, record, {**good, "files": [changed]})
            said: list[str] = []
            recover(Store.open(str(folder.root)), RUN, said.append)
            assert len(said) == 1 and record in said[0]
            assert folder.files.exists("store.json") and folder.files.exists(other)
            assert rows_of(folder) == rows and folder.manifests.problem(RUN) is None


@pytest.mark.parametrize("table", [None, "scores"])
def test_a_manifest_older_than_its_files(folder: Store, table: str | None) -> None:
    """4. As ClickHouse/ClickHouse#114324; with `table`, no file that it lists is missing."""
    compact(folder)
    manifest = folder.root / f"_manifests/{RUN}.json"
    older = manifest.read_bytes()
    if table is None:
        write(folder, N_PARTS)
    else:
        for item in "ef":
            put(folder, table, [replace(SCORE, self_edit_id=item)])
    compact(folder)
    rows, all_refs, scores = rows_of(folder), refs(folder), folder.rows("scores")
    manifest.write_bytes(older)
    other = Store.open(str(folder.root), create=False)
    said: list[str] = []
    recover(other, RUN, said.append)
    assert any("nowhere else" in line and "listed again" in line for line in said)
    assert rows_of(other) == rows and not [ref for ref in all_refs if other.verify(ref)]
    assert not other.files.glob("_damaged/*")
    recover(other, RUN, said.append)
    assert compact(other) == [] and rows_of(other) == rows
    assert other.rows("scores") == scores
