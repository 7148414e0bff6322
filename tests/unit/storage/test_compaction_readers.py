"""Readers whose every step a compaction can come between.

1. A query sees each row once if the manifest is swapped after the files were listed.
2. A compacted file that counts and is missing ends a query.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from seal_core.errors import StoreError
from storage.runs.compaction import compact
from storage.sql.catalog import Catalog
from storage.store import Store
from storage.tables.manifest import Manifests
from tests.unit.storage.compacting import N_PARTS, RUN, filled, rows_of, write


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
