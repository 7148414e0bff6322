"""`seal sql` into files: the format by the file's name, never into the store, damage explained.

And a DuckDB file with the same views.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from flows.commands.asking.sql import MAX_TABLE_ROWS, sql
from seal_core.errors import InputError
from storage.runs.compaction import compact
from storage.sql.catalog import Catalog
from storage.store import Store
from tests.unit.storage.compacting import RUN, filled
from tests.unit.storage.rows import SCORE, many, put


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.open(str(tmp_path / "store"))
    put(store, "scores", many(SCORE, [{"self_edit_id": f"e{i}"} for i in range(3)]))
    return store


def ask(store: Store, query: str, output: Path) -> None:
    sql(query, str(store.root), None, output, list_views=False)


def test_the_format_is_that_of_the_name(store: Store, tmp_path: Path) -> None:
    for name in ("a.csv", "a.json", "a.parquet", "a.txt"):
        ask(store, "SELECT self_edit_id AS id FROM scores ORDER BY 1", tmp_path / name)
    assert (tmp_path / "a.csv").read_text() == "id\ne0\ne1\ne2\n"
    assert json.loads((tmp_path / "a.json").read_text())[2] == {"id": "e2"}
    assert pq.read_table(tmp_path / "a.parquet").num_rows == 3
    assert (tmp_path / "a.txt").read_text().endswith("(3 rows)\n")


def test_a_cut_table_says_so_beside_the_file(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ask(store, f"FROM range({MAX_TABLE_ROWS + 1})", tmp_path / "a.txt")
    assert "first rows only" in capsys.readouterr().err
    assert "first rows" not in (tmp_path / "a.txt").read_text()


def test_nothing_is_written_into_the_store(store: Store) -> None:
    inside = Path(store.root) / "scores/run=r/round=0/part-x.parquet"
    with pytest.raises(InputError, match="inside the store"):
        ask(store, "SELECT 1 AS x", inside)
    assert not inside.exists()


def test_a_damaged_part_is_explained(store: Store, tmp_path: Path) -> None:
    part = next(Path(store.root).glob("scores/*/*/*.parquet"))
    part.write_bytes(part.read_bytes()[:-9])
    with pytest.raises(InputError, match=r"part-.*seal verify"):
        ask(store, "SELECT count(gain) FROM scores", tmp_path / "a.csv")


def test_a_database_has_the_same_views(tmp_path: Path) -> None:
    store = filled(str(tmp_path / "it's a store"))
    compact(store)
    filled(str(store.root), "other")
    # A kill after the swap leaves files that no longer count.
    (part,) = store.root.glob("answers/run=r/round=0/part-compact-*.parquet")
    member = next(m for m in store.manifests.get(RUN).by_member if m.startswith("answers/"))
    shutil.copy(part, store.root / member)
    file = tmp_path / "history.duckdb"
    for _ in range(2):  # Made anew if it is there.
        sql(None, str(store.root), None, None, database=file)
    with duckdb.connect(str(file), read_only=True) as plain, Catalog(store) as catalog:
        for name, _ in catalog.describe():
            found = plain.sql(f'FROM "{name}"').fetchall()
            assert sorted(map(str, found)) == sorted(map(str, catalog.fetch(f'FROM "{name}"')))
        assert plain.sql("SELECT count(DISTINCT run) FROM answers").fetchall() == [(2,)]
    with pytest.raises(InputError, match="inside the store"):
        sql(None, str(store.root), None, None, database=store.root / "x.duckdb")
    strange = Store.open(str(tmp_path / "round=3"))
    with pytest.raises(InputError, match="round=3"):
        sql(None, str(strange.root), None, None, database=file)


def test_only_its_own_databases_are_replaced(store: Store, tmp_path: Path) -> None:
    mine, other, notes = (tmp_path / name for name in ("mine.duckdb", "other.duckdb", "notes"))
    for _ in range(2):
        sql(None, str(store.root), None, None, mine, list_views=False)
    with duckdb.connect(str(mine), read_only=True) as connection:
        assert connection.execute("SELECT count(*) FROM scores").fetchall() == [(3,)]
    with duckdb.connect(str(other)) as connection:
        connection.execute("CREATE TABLE t AS SELECT 1 AS x")
    with duckdb.connect(str(tmp_path / "views")) as connection:
        connection.execute("CREATE VIEW mine AS SELECT 1 AS x")
    notes.write_text("mine")
    for file in (other, notes, tmp_path / "views"):
        before = file.read_bytes()
        with pytest.raises(InputError, match="is no file that `seal sql --database` wrote"):
            sql(None, str(store.root), None, None, file, list_views=False)
        assert file.read_bytes() == before
    with pytest.raises(InputError, match="cannot be written: No such file"):
        sql(None, str(store.root), None, None, tmp_path / "no/h.duckdb", list_views=False)


def test_what_would_be_ignored_is_refused(store: Store, tmp_path: Path) -> None:
    file, root = tmp_path / "a", str(store.root)
    for given in (
        ("SELECT 1", None, file, False),
        (None, file, tmp_path / "b", False),
        ("SELECT 1", None, None, True),
        (None, None, file, True),
    ):
        query, output, database, list_views = given
        with pytest.raises(InputError, match="stands alone"):
            sql(query, root, None, output, database, list_views=list_views)
    assert not list(tmp_path.glob("[ab]"))
