"""Damage to compact files and their records.

1. It is named and set aside, and nothing else is lost; refs are valid again once the parts are.
2. A record cannot name files outside of its partition.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from seal_core.errors import StoreError
from storage.compact_settle import settle_compaction
from storage.compaction import compact
from storage.records import read_record, write_record
from storage.store import Store
from tests.unit.storage.compacting import (
    N_PARTS,
    RUN,
    damage,
    files_of,
    filled,
    refs,
    write,
)


@pytest.fixture(params=["folder", "bucket"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "bucket":
        return request.getfixturevalue("s3_root")
    return str(tmp_path / "a [b]* 'store'?")


@pytest.fixture
def folder(tmp_path: Path) -> Store:
    return filled(str(tmp_path / "store"))


@pytest.mark.parametrize("what", ["flip", "truncate", "delete", "record", "no record"])
def test_damage_is_named_and_set_aside(root: str, what: str) -> None:
    """1"""
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
    """1"""
    compact(folder)
    damage(next(p for p in files_of(folder) if p.startswith("answers/")), folder)
    (ref, *_) = write(folder, 3)
    assert folder.verify(ref) is None and len(folder.rows("answers", RUN)) == 3
    assert len(list((folder.root / "_damaged").iterdir())) == 2


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


def test_a_record_names_no_other_files(folder: Store) -> None:
    """2"""
    compact(folder)
    (record,) = folder.files.glob(f"_compact/{RUN}/answers/0/*.json")
    good = read_record(folder.files, record)
    (other,) = folder.files.glob("runs/*/*/*.parquet")
    for path in ("store.json", "../x", "/etc/passwd", other, good["members"][0]["path"] + "x"):
        for changed in (
            {**good, "members": [{**good["members"][0], "path": path}]},
            {**good, "replaces": [path]},
            {**good, "incoming": path},
        ):
            write_record(folder.files, record, changed)
            name = f"answers,{RUN},0,{record[-21:-5]}"
            folder.files.write(f"_compacting/{name}", b"")
            said: list[str] = []
            settle_compaction(Store.open(str(folder.root)), RUN, said.append)
            assert len(said) == 1 and record in said[0]
            assert folder.files.exists("store.json") and folder.files.exists(other)
            # Back from where it was set aside.
            for kept in folder.files.glob("_damaged/answers_*"):
                path_of = f"answers/run={RUN}/round=0/{kept.rpartition('_')[2]}"
                folder.files.link(kept, path_of)
