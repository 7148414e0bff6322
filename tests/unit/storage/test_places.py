"""A store may lie below any folder or prefix: its path says nothing about its rows.

1. Rows keep their run and round, before and after compaction, wherever the store lies.
2. A message names a file where the user knows it, and SQL sees the tables and nothing else.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from seal_core.errors import InputError
from storage.runs.compaction import compact
from storage.sql.catalog import Catalog
from storage.store import Store
from tests.unit.storage.compacting import RUN, filled, rows_of, sql_of
from tests.unit.storage.rows import SCORE, put

PLACES = (
    "#hash/what?/star*/back\\slash/a::b/$HOME/~x",
    "run=?*[x]#%'",
    "plain",
    "run=x/round=3",
    "round=3",
    "a=b/score=1/answer_id=q",
    "100%/%20/%3D",
    "sp ace/ü/日本/é😀",
    'it\'s/"quoted"/{e}/[a]',
)
FOLDERS = (*PLACES, "[/x]/new\nline/{a,b}", " ends with a space ", "-dash/:memory:")


@pytest.fixture
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    kind, place = request.param
    if kind == "folder":
        return str(tmp_path / place / "store")
    if kind == "link":
        (tmp_path / place / "store").mkdir(parents=True)
        (tmp_path / "link").symlink_to(tmp_path / place)
        return str(tmp_path / "link" / "store")
    return f"{request.getfixturevalue('s3_root')}/{place}/store"


EVERYWHERE = [("folder", place) for place in FOLDERS]
EVERYWHERE += [("link", "run=x/round=3")]
EVERYWHERE += [("bucket", place) for place in PLACES[:2]]
LONG = [pytest.param(("bucket", place), marks=pytest.mark.long) for place in PLACES[2:]]


@pytest.mark.parametrize("root", [*EVERYWHERE, *LONG], indirect=True, ids="{0[0]} {0[1]}".format)
def test_rows_are_the_same_everywhere(root: str, tmp_path: Path) -> None:
    """1"""
    usual = filled(str(tmp_path / "usual"))
    store = filled(root)
    with Catalog(store) as here, Catalog(usual) as there:
        for table in ("answers", "questions", "stages"):
            columns = here.query(f"FROM {table}").columns
            assert columns == there.query(f"FROM {table}").columns
        assert here.fetch("SELECT DISTINCT run, round FROM answers") == [(RUN, 0)]
        before, expected = sql_of(here), sql_of(there)
        for table in ("answers", "questions"):
            assert before[table] == expected[table]
        rows = rows_of(store)
        assert compact(store, RUN)
        assert sql_of(here) == before
    assert rows_of(Store.open(root)) == rows
    with Catalog(Store.open(root)) as catalog:
        assert sql_of(catalog) == before


def test_messages_and_reach_are_the_same(tmp_path: Path) -> None:
    """2"""
    store = Store.open(str(tmp_path / "run=x" / "store"))
    ref = put(store, "scores", [SCORE])
    part = tmp_path / "run=x" / "store" / ref.path
    (tmp_path / "run=x" / "store" / "secret.txt").write_text("secret")
    with Catalog(store) as catalog:
        assert catalog.fetch("SELECT run, round FROM scores") == [("r", 0)]
        room = catalog._room.name
        for path in (f"{room}/store/secret.txt", f"{tmp_path}/run=x/store/secret.txt"):
            with pytest.raises(InputError, match="SQL: "):
                catalog.query(f"SELECT * FROM read_text('{path}')")
        part.write_bytes(b"PAR1 broken")
        with pytest.raises(InputError) as caught:
            catalog.query("FROM scores")
    assert str(part) in str(caught.value) and room not in str(caught.value)
    assert not Path(room).exists() and part.exists()


def test_temporary_files_in_such_a_folder_are_refused(tmp_path: Path, monkeypatch) -> None:
    """1"""
    (tmp_path / "a=b").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "a=b"))
    with pytest.raises(InputError, match="set TMPDIR to a folder without ="):
        Catalog(Store.open(str(tmp_path / "store")))
    assert list((tmp_path / "a=b").iterdir()) == []
