"""The views over the tables, as SQL; and a DuckDB file that has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import duckdb

from seal_core.errors import InputError
from storage.files.base import in_objects
from storage.sql.queries import list_queries
from storage.store import Store
from storage.tables.schema import PARTITIONS, TABLES, Table

_NAMES = "SELECT {0}_name FROM duckdb_{0}s() WHERE NOT internal"
_PATTERN = frozenset("=*?[]{}\\")


def table_view(table: Table, files: Sequence[str]) -> str:
    """The statement that makes a table's view over files; without any it is empty."""
    columns = PARTITIONS | {c.name: c.sql for c in table.columns if c.name not in PARTITIONS}
    cells = ", ".join(f'NULL::{kind} AS "{name}"' for name, kind in columns.items())
    sql = f"SELECT {cells} WHERE false"
    if files:  # DuckDB refuses to read no files.
        kinds = ", ".join(f"'{column}': {kind}" for column, kind in PARTITIONS.items())
        sql = (
            f"FROM ({sql}) UNION ALL BY NAME SELECT * FROM "
            f"read_parquet([{', '.join(map(quote, files))}], hive_partitioning = true, "
            f"hive_types = {{{kinds}}}, union_by_name = true)"
        )
    return _view(table.name, sql)


def make_views(connection: duckdb.DuckDBPyConnection, files: Mapping[str, Sequence[str]]) -> None:
    """Makes a view per table, over its files, and per named query."""
    for name, table in TABLES.items():
        connection.execute(table_view(table, files.get(name, [])))
    for query in list_queries():
        connection.execute(_view(query.name, query.sql))


def _view(name: str, sql: str) -> str:
    """The statement that makes a view, or makes it anew."""
    return f'CREATE OR REPLACE VIEW "{name}" AS {sql}'


def quote(text: str) -> str:
    """Text as SQL has it."""
    return "'" + text.replace("'", "''") + "'"


def write_database(store: Store, path: Path) -> None:
    """Writes a DuckDB file with a view per table and named query, over the files that count now.

    Raises:
        InputError: the store is not in a folder, or DuckDB would take its path for a pattern.
        OSError: the file cannot be written.
    """
    if in_objects(store.files):
        raise InputError(
            f"store {store.root}: a DuckDB file needs a store in a folder: copy it to one, or use "
            "`seal sql`"
        )
    root = Path(store.root)
    if found := sorted(_PATTERN & set(str(root))):
        raise InputError(
            f"store {root}: DuckDB takes {found[0]!r} in a path for more than a name: move the "
            "store, or give a link to it as --store"
        )
    path.touch()  # DuckDB's own error has no number.
    path.unlink()
    with duckdb.connect(str(path)) as connection:
        live = {name: store.manifests.live(name) for name in TABLES}
        make_views(
            connection,
            {name: [str(root / path) for path in paths] for name, paths in live.items()},
        )


def is_database_of_views(path: Path) -> bool:
    """Whether nothing is lost where `write_database` replaces this file: it has views alone."""
    if not path.exists() or path.is_dir():  # Whoever writes says what is wrong with a folder.
        return True
    try:
        with duckdb.connect(str(path), read_only=True) as connection:
            tables, views = (
                {row[0] for row in connection.execute(_NAMES.format(kind)).fetchall()}
                for kind in ("table", "view")
            )
    except duckdb.IOException as error:
        if "lock" in str(error):
            raise InputError(f"{path} is open in another process: close it there") from None
        return False
    except duckdb.Error:
        return False
    return not tables and bool(views) and views <= {*TABLES, *(own.name for own in list_queries())}
