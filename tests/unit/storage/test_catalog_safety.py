"""SQL over a store reads its tables, and nothing else; for a folder and for a bucket.

1. No statement writes, and no setting can be changed, however it is wrapped.
2. No function reads a file outside of the tables: of the machine, of the store, of the network.
3. No link inside the store leads out of it.
4. Text from data stays text: it round-trips, and reaches neither a path nor SQL.
5. Large parts are read by ranges, and a part that changed is read anew.
"""

from __future__ import annotations

import os
import random
import re
from dataclasses import replace
from pathlib import Path

import pytest

from seal_core.errors import InputError
from storage.files.base import Files, in_objects
from storage.sql import object_source
from storage.sql.catalog import Catalog
from storage.store import Store
from tests.unit.storage.rows import PROBLEM, SCORE, many, put

NAME = "it's [a] *store* {x} é😀 %s"


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "folder":
        opened = Store.open(str(tmp_path / NAME))
    else:
        name = NAME.replace("*", "+")
        opened = Store.open(f"{request.getfixturevalue('s3_root')}/{name}")
    put(opened, "scores", [SCORE])
    return opened


def places(store: Store, tmp_path: Path) -> dict[str, str]:
    """What the statements below are filled in with, quoted for SQL."""
    root = str(store.root) if not in_objects(store.files) else "store:/"
    (tmp_path / "secret.csv").write_text("a\n1\n")
    (tmp_path / "secret.parquet").write_bytes(store.files.read(parts(store.files)[0]))
    texts = {"root": root, "home": str(tmp_path), "url": str(store.root)}
    return {key: text.replace("'", "''") for key, text in texts.items()}


def parts(files: Files) -> list[str]:
    return files.glob("scores/*/*/*")


WRITES = [
    "COPY (SELECT 1) TO '{root}/scores/x.csv'",
    "COPY scores TO '{home}/x.parquet' (FORMAT parquet)",
    "COPY scores FROM '{home}/secret.csv'",
    "WITH x AS (COPY (SELECT 1) TO '{root}/scores/x.csv') SELECT 1",
    "SELECT * FROM scores, (WITH x AS (COPY (SELECT 1) TO '{root}/scores/x.csv') SELECT 1)",
    "SELECT * FROM problems WHERE false AND 1 IN (WITH x AS (COPY (SELECT 1) TO '{home}/x')"
    " SELECT 1)",
    "SELECT * FROM query('COPY (SELECT 1) TO ''{home}/x.csv''')",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{root}/scores/x.csv'",
    "EXPORT DATABASE '{home}/x'",
    "IMPORT DATABASE '{home}'",
    "ATTACH '{home}/x.db'",
    "ATTACH ':memory:' AS other",
    "CREATE TABLE x AS SELECT 1",
    "CREATE VIEW x AS SELECT 1",
    "CREATE MACRO x() AS 1",
    "CREATE SECRET x (TYPE s3, KEY_ID 'a', SECRET 'b')",
    "CREATE PERSISTENT SECRET x (TYPE s3, KEY_ID 'a', SECRET 'b')",
    "INSERT INTO scores VALUES (1)",
    "DELETE FROM scores",
    "UPDATE scores SET gain = 1",
    "DROP VIEW scores",
    "VACUUM",
    "INSTALL httpfs",
    "LOAD httpfs",
    "LOAD '{home}/x.duckdb_extension'",
    "SET enable_external_access = true",
    "SET allowed_directories = ['/']",
    "SET GLOBAL lock_configuration = false",
    "RESET allowed_directories",
    "SET VARIABLE x = 1",
    "PRAGMA enable_external_access",
    "PRAGMA database_list",
    "USE memory",
    "CALL pragma_version()",
    "EXECUTE x",
    "PREPARE x AS COPY (SELECT 1) TO '{home}/x'",
    "BEGIN",
]


def test_nothing_writes(store: Store, tmp_path: Path) -> None:
    """1"""
    names = places(store, tmp_path)
    before = (sorted(tmp_path.rglob("*")), store.files.glob("*"), store.files.glob("*/*"))
    with Catalog(store) as catalog:
        for statement in WRITES:
            with pytest.raises(InputError) as caught:
                print(statement, catalog.query(statement.format(**names)).rows)
            assert "\n" not in str(caught.value), statement
        assert catalog.fetch("SELECT current_setting('enable_external_access')") == [(False,)]
        assert catalog.fetch("SELECT count(*) FROM scores") == [(1,)]
    after = (sorted(tmp_path.rglob("*")), store.files.glob("*"), store.files.glob("*/*"))
    assert after == before


FILES = [
    "/etc/passwd",
    "/etc/pass*",
    "file:///etc/passwd",
    "{home}/secret.csv",
    "{root}/../secret.csv",
    "{root}/scores/../../secret.csv",
    "{root}/scores/../store.json",
    "{root}/store.json",
    "{root}/s*.json",
    "{root}/_logs/x",
    "{root}/scores/run=r/../../store.json",
    "store://../secret.csv",
    "store://store.json",
    "store:///etc/passwd",
    "{url}/store.json",
    "s3://bucket/key",
    "http://127.0.0.1:9/x",
    "https://example.org/x.csv",
    "/proc/self/environ",
    "~/.aws/credentials",
    "/dev/stdin",
]
READERS = ["read_text('{}')", "read_blob('{}')", "read_csv('{}')", "read_json('{}')",
           "read_parquet('{}')", "parquet_metadata('{}')", "sniff_csv('{}')", "glob('{}')",
           "read_text(['{}'])", "'{}'"]  # fmt: skip
REFUSALS = "Cannot access file|outside of the store|Table with name .* does not exist"
NO_FILES = [
    "SELECT getenv('HOME')",
    "SELECT * FROM read_text(getenv('HOME'))",
    "SELECT * FROM tmp_path",
    "SELECT * FROM query_table('/etc/passwd')",
    "SELECT * FROM sqlite_scan('/etc/passwd', 'x')",
    "SELECT * FROM pragma_database_size('/etc/passwd')",
]


def test_nothing_outside_is_read(store: Store, tmp_path: Path) -> None:
    """2"""
    names = places(store, tmp_path)
    with Catalog(store) as catalog:
        for reader in READERS:
            for file in FILES:
                source = reader.replace("{}", file).format(**names)
                with pytest.raises(InputError) as caught:
                    print(source, catalog.query(f"SELECT * FROM {source}").rows)
                assert re.search(REFUSALS, str(caught.value)), source
                assert "\n" not in str(caught.value), source
        with pytest.raises(InputError):
            catalog.query(f"SELECT * FROM read_parquet('{names['home']}/secret.parquet')")
        for statement in NO_FILES:
            with pytest.raises(InputError):
                catalog.query(statement)
        assert catalog.fetch("SELECT count(*) FROM duckdb_secrets()") == [(0,)]
        inside = catalog._source.name("scores/*/*/*").replace("'", "''")
        assert catalog.fetch(f"SELECT count(*) FROM read_blob('{inside}')") == [(1,)]


def test_links_lead_nowhere(tmp_path: Path) -> None:
    """3"""
    store = Store.open(str(tmp_path / "store"))
    put(store, "scores", [SCORE])
    outside = tmp_path / "outside"
    put(Store.open(str(outside)), "scores", many(SCORE, [{"self_edit_id": "secret"}]), run="x")
    (part,) = outside.glob("scores/*/*/*")
    root = Path(store.root)
    links = {
        root / "scores/run=r/round=0/part-0000000000000000.parquet": part,
        root / "scores/run=x": outside / "scores/run=x",
        root / "answers": outside / "scores",
        root / "scores/run=r/passwd": Path("/etc/passwd"),
        root / "scores/run=r/round=0/nowhere": tmp_path / "nowhere",
    }
    with Catalog(store) as catalog:
        for link, target in links.items():
            os.symlink(target, link)
            for sql in ("SELECT 1", "FROM scores", f"FROM read_text('{link}')"):
                with pytest.raises(InputError, match="is a link, and may lead out of the store"):
                    catalog.query(sql)
            link.unlink()
        assert catalog.fetch("SELECT count(*) FROM scores") == [(1,)]


TEXTS = [
    "it's", '"; DROP VIEW problems; --', "'); COPY (SELECT 1) TO '/tmp/x'; --", "a\0b", "é😀\u202e",
    "{root} {0} %s %(x)s $1 ?", "*?[a]/../..", "line\nline\r\n\ttab", "", " ", "NULL", "\\x00\\",
]  # fmt: skip


def test_text_stays_text(store: Store) -> None:
    """4"""
    rng = random.Random(5)
    texts = TEXTS + ["".join(chr(rng.randint(0, 0x2FF)) for _ in range(20)) for _ in range(100)]
    rows = [
        replace(PROBLEM, problem_id=f"p{i}{text}", title=text, context=text)
        for i, text in enumerate(texts)
    ]
    before = store.files.glob("*")
    ref = put(store, "problems", rows)
    assert store.read(ref) == rows
    with Catalog(store) as catalog:
        found = catalog.fetch("SELECT problem_id, title, context FROM problems")
        assert found == [(row.problem_id, row.title, row.context) for row in rows]
        for row in rows:
            sql = "SELECT title FROM problems WHERE problem_id = $id"
            assert catalog.fetch(sql, id=row.problem_id) == [(row.title,)]
    assert store.files.glob("*") == before and len(store.files.glob("problems/*/*/*")) == 1


@pytest.mark.parametrize("name", ["a'b", "../x", "a\nb", "a/b", "a*", "", "{x}", "a\0b", "é"])
def test_run_names(store: Store, name: str) -> None:
    """4"""
    before = store.files.glob("*/*/*/*")
    with pytest.raises(InputError, match="run name"):
        put(store, "scores", [SCORE], run=name)
    assert store.files.glob("*/*/*/*") == before


def test_parts_of_any_size_and_age(
    s3_root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """5"""
    stores = [Store.open(s3_root), Store.open(str(tmp_path / "local"))]
    rows = [replace(SCORE, self_edit_id=f"e{i}-{random.random()}") for i in range(20_000)]
    for opened in stores:
        for part in range(4):
            put(opened, "scores", rows[part * 5000 : (part + 1) * 5000], part)
    sql = "SELECT * FROM scores ORDER BY round, self_edit_id"
    with Catalog(stores[1]) as catalog:
        expected = catalog.fetch(sql)
    for small in (8 << 20, 1000):
        monkeypatch.setattr(object_source, "_SMALL_BYTES", small)
        with Catalog(stores[0]) as catalog:
            assert catalog.fetch(sql) == expected
            assert catalog.fetch(sql) == expected
    monkeypatch.setattr(object_source, "_CACHE_BYTES", 200_000)
    with Catalog(stores[0]) as catalog:
        assert catalog.fetch(sql) == expected
        (path, *_) = stores[0].files.glob("scores/*/*/*")
        other = put(Store.open(str(tmp_path / "other")), "scores", many(SCORE, [{"gain": 9.0}]))
        stores[0].files.write(path, (tmp_path / "other" / other.path).read_bytes())
        assert catalog.fetch("SELECT max(gain), count(*) FROM scores") == [(9.0, 15_001)]
        for left in stores[0].files.glob("scores/*/*/*")[1:]:
            stores[0].files.delete(left)
        assert catalog.fetch("SELECT max(gain), count(*) FROM scores") == [(9.0, 1)]
