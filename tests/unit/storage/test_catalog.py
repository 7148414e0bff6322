"""SQL over the store: views exist before their rows, and a query can only read, only inside.

1. Views are there, empty, with the right types, and fill without a new catalog.
2. Temporary and hidden files are in no view; run names stay text; round -1 is a number.
3. Nothing can write, or read outside the store; an error is one line with its hint.
"""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from flows.views.formats import render, replacing, write_parquet
from seal_core.errors import InputError, StoreError
from storage.sql.catalog import Catalog, QueryResult
from storage.store import Store
from storage.tables.schema import TABLES
from tests.unit.storage.rows import EDIT, QUESTION, SCORE, many, put


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(str(tmp_path / "a [b]* 'store'?"))


def test_views_fill(store: Store) -> None:
    with Catalog(store) as catalog:
        before = {name: catalog.query(f"DESCRIBE {name}").rows for name, _ in catalog.describe()}
        assert all(catalog.query(f"SELECT * FROM {name}").rows == [] for name in before)
        put(store, "questions", [QUESTION], -1, run="007")
        put(store, "self_edits", many(EDIT, [{}, {"self_edit_id": "e1", "error": "x"}]), 3)
        after = {name: catalog.query(f"DESCRIBE {name}").rows for name in before}
        assert after == before and set(TABLES) < set(before)
        assert catalog.fetch("SELECT run, round, gold FROM questions") == [
            ("007", -1, ["yes", "ja"])
        ]
        assert catalog.fetch("SELECT count(*) FROM self_edits WHERE round = 3") == [(2,)]
        put(store, "self_edits", [EDIT], 4)
        assert catalog.records("SELECT max(round) AS top FROM self_edits") == [{"top": 4}]


def test_leftovers_are_in_no_view(store: Store) -> None:
    ref = put(store, "scores", [SCORE])
    folder = (store.root / ref.path).parent
    (folder / ".part-0.parquet.1.tmp").write_bytes(b"half")
    (folder / ".part-0.parquet").write_bytes(b"half")
    with Catalog(store) as catalog:
        assert catalog.fetch("SELECT count(*) FROM scores") == [(1,)]


def test_a_part_of_an_older_version(store: Store) -> None:
    ref = put(store, "scores", [SCORE])
    path = store.root / ref.path
    pq.write_table(pq.ParquetFile(path).read().drop_columns(["gain"]), path)
    with Catalog(store) as catalog:
        assert catalog.fetch("SELECT gain, n_answers FROM scores") == [(None, 4)]
    assert store.rows("scores")[0][1].gain is None


@pytest.mark.parametrize(
    "sql",
    [
        "COPY (SELECT 1) TO '{root}/x.csv'",
        "WITH x AS (COPY (SELECT 1) TO '{root}/x.csv') SELECT 1",
        "SELECT * FROM query('WITH x AS (COPY (SELECT 1) TO ''{root}/x.csv'') SELECT 1')",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '{root}/x.csv'",
        "EXPLAIN /* */ analyze SELECT 1",
        "EXPLAIN (ANALYZE) COPY (SELECT 1) TO '{root}/x.csv'",
        "ATTACH '{root}/x.db'",
        "EXPORT DATABASE '{root}/x'",
        "SELECT * FROM read_csv('{outside}')",
        "SELECT * FROM read_text('{root}/../secret.csv')",
        "SELECT * FROM '{outside}'",
        "SELECT * FROM glob('/etc/*')",
        "INSTALL httpfs",
        "LOAD httpfs",
        "CREATE TABLE x (a INT)",
        "CREATE OR REPLACE VIEW scores AS SELECT 1",
        "SET threads = 1",
        "PRAGMA version",
        "CALL pragma_version()",
        "CHECKPOINT",
        "DROP VIEW scores",
        "SELECT 1; SELECT 2",
        "",
        "SELECT * FROM EDIT",
        "SELECT $missing",
    ],
)
def test_refused(store: Store, sql: str) -> None:
    outside = store.root.parent / "secret.csv"
    outside.write_text("a\n1\n")
    before = sorted(store.root.rglob("*"))
    quoted = str(store.root).replace("'", "''")
    with Catalog(store) as catalog:
        with pytest.raises(InputError) as caught:
            catalog.query(sql.format(root=quoted, outside=outside))
        assert "\n" not in str(caught.value)
        assert catalog.fetch("SELECT count(*) FROM scores") == [(0,)]
    assert sorted(store.root.rglob("*")) == before


READING = [
    "FROM scores",
    "SHOW TABLES",
    "SUMMARIZE scores",
    "EXPLAIN SELECT 1",
    "VALUES (1)",
    "WITH x AS (SELECT 1) SELECT * FROM x -- done",
    "DESCRIBE scores",
]


def test_reading_statements_and_hints(store: Store) -> None:
    with Catalog(store) as catalog:
        for sql in READING:
            catalog.query(sql)
        put(store, "scores", [SCORE])
        written = "json_execute_serialized_sql(json_serialize_sql('FROM sco' || 'res'))"
        assert len(catalog.fetch(f"FROM {written}")) == 1
        assert catalog.fetch("SELECT $a || 'x'", a="'; DROP") == [("'; DROPx",)]
        with pytest.raises(InputError, match=r'gian.*Candidate bindings.*"gain"'):
            catalog.query("SELECT gian FROM scores")


def test_formats(store: Store, tmp_path: Path) -> None:
    with Catalog(store) as catalog:
        result = catalog.query(
            "SELECT * FROM (VALUES (1, 'a,\"b', ['x'], NULL), "
            "(20, chr(27) || chr(10), NULL, 'nan'::DOUBLE)) t(n, text, list, f)"
        )
    assert render(result, "csv").splitlines()[:2] == ["n,text,list,f", '1,"a,""b","[""x""]",']
    assert json.loads(render(result, "json"))[1] == {
        "n": 20,
        "text": "\x1b\n",
        "list": None,
        "f": None,
    }
    table = render(result, "table")
    assert "\x1b" not in table and table.splitlines()[0].startswith(" n  text")
    assert table.endswith("(2 rows)")
    with Catalog(store) as catalog, pytest.raises(InputError, match="two columns are named 'n'"):
        render(catalog.query("SELECT 1 AS n, 2 AS n"), "json")
    with replacing(tmp_path / "out.parquet") as temporary:
        write_parquet(result.arrow.to_reader(), temporary)
    assert pq.read_table(tmp_path / "out.parquet")["n"].to_pylist() == [1, 20]
    with (
        pytest.raises(InputError, match="cannot be written"),
        replacing(Path("/proc/none/x.parquet")) as temporary,
    ):
        write_parquet(result.arrow.to_reader(), temporary)
    assert render(QueryResult(("a",), [], result.arrow), "table") == "a\n-\n(0 rows)"


def test_the_first_rows_alone(store: Store) -> None:
    put(store, "scores", many(SCORE, [{"self_edit_id": f"e{i}"} for i in range(9)]))
    with Catalog(store) as catalog:
        sorted_down = "SELECT self_edit_id FROM scores ORDER BY 1 DESC"
        for sql in (
            sorted_down,
            f"{sorted_down};",
            f"{sorted_down} -- down",
            f"{sorted_down}; -- x",
        ):
            assert catalog.head(sql, 2).rows == [("e8",), ("e7",)]
        assert len(catalog.head("SHOW TABLES", 3).rows) == 3
        assert len(catalog.head("DESCRIBE scores", 100).rows) > 10
        assert catalog.head("EXPLAIN SELECT 1", 5).rows
        with pytest.raises(InputError, match="gian"):
            catalog.head("SELECT gian FROM scores", 2)
        with pytest.raises(InputError, match="one statement"):
            catalog.head("SELECT 1) LIMIT 1; DROP VIEW scores; SELECT (1", 2)
        with pytest.raises(InputError, match="COPY"):
            catalog.head("COPY (SELECT 1) TO 'x'", 2)


def test_a_stream_gives_all_rows_and_refuses_as_a_query_does(store: Store) -> None:
    put(store, "scores", many(SCORE, [{"self_edit_id": f"e{i}"} for i in range(20_003)]))
    with Catalog(store) as catalog:
        with catalog.stream("SELECT self_edit_id FROM scores") as reader:
            batches = [batch.num_rows for batch in reader]
        assert sum(batches) == 20_003 and max(batches) <= 10_000
        for sql, problem in (("SELECT gian FROM scores", "gian"), ("LOAD httpfs", "not allowed")):
            with pytest.raises(InputError, match=problem), catalog.stream(sql):
                raise AssertionError("it was answered")
        late = "SELECT error('late') FROM scores WHERE self_edit_id = 'e20002'"
        with pytest.raises(InputError, match="late"), catalog.stream(late) as reader:
            list(reader)
        assert catalog.fetch("SELECT count(*) FROM scores") == [(20_003,)]


def test_streamed_formats_equal_those_of_a_result(store: Store) -> None:
    put(store, "scores", many(SCORE, [{"self_edit_id": f"e{i}"} for i in range(3)]))
    with Catalog(store) as catalog:
        for sql in ("FROM scores", "FROM scores WHERE false"):
            result = catalog.query(sql)
            rows = [dict(zip(result.columns, row, strict=True)) for row in result.rows]
            assert json.loads(render(result, "json")) == rows
            assert render(result, "json") == json.dumps(rows, indent=2)
            lines = render(result, "csv").splitlines()
            assert lines[0] == ",".join(result.columns) and len(lines) == len(rows) + 1


def test_a_file_is_replaced_only_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_text("old")
    with pytest.raises(StoreError), replacing(path) as temporary:
        temporary.write_text("half")
        raise StoreError("ask again")
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["out.csv"]
    with replacing(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new" and [p.name for p in tmp_path.iterdir()] == ["out.csv"]
