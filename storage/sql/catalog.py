"""Read-only SQL over a store: a DuckDB view per table and per named query."""

from __future__ import annotations

import re
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from seal_core.errors import InputError, StoreError
from storage.sql.queries import list_queries
from storage.sql.sources import open_source
from storage.sql.statements import check_statement
from storage.sql.views import make_views, quote, table_view
from storage.store import Store
from storage.tables.schema import TABLES

_MEMORY = "1GiB"
_BATCH = 10_000


@dataclass(frozen=True)
class QueryResult:
    """What a query gave: column names, rows as plain Python values, and the Arrow table."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    arrow: pa.Table


class Catalog:
    """The views of one store. Parts that are written later are seen by the next query."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._queries = list_queries()
        self._filled: dict[str, str] = {}
        self._needs = _needs({query.name: query.sql for query in self._queries})
        # The user's own, so that nobody else's files are in a folder that SQL may read.
        self._room = tempfile.TemporaryDirectory(prefix="seal-duckdb-")
        self._spill = Path(self._room.name) / "spill"
        self._spill.mkdir()
        try:
            self._source = open_source(store.files, Path(self._room.name) / "store")
        except InputError:
            self._room.cleanup()
            raise
        # Statements are checked where every view is empty: planning there opens no part.
        self._planner = self._connect("enable_optimizer = false")
        self._connection = self._connect()

    def __enter__(self) -> Catalog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Frees DuckDB's memory and what it spilled to disk."""
        self._planner.close()
        self._connection.close()
        self._room.cleanup()

    def describe(self) -> list[tuple[str, str]]:
        """Name and meaning of every view, tables first."""
        tables = [(table.name, table.about) for table in TABLES.values()]
        return tables + [(query.name, query.question) for query in self._queries]

    def query(self, sql: str, **parameters: Any) -> QueryResult:
        """Answers one SELECT, WITH, DESCRIBE, SHOW, SUMMARIZE or EXPLAIN statement.

        Args:
            sql: May use `$name` for each of `parameters`.

        Raises:
            InputError: the statement is wrong, would write, or would leave the store.
        """
        return _result(self._read(sql, parameters))

    def head(self, sql: str, n: int) -> QueryResult:
        """At most the first `n` rows of `query`, which may save making the others."""
        shorter = f"SELECT * FROM (\n{sql.strip().removesuffix(';')}\n) LIMIT {n}"
        try:
            self._planner.extract_statements(shorter)
        except duckdb.Error:
            shorter = sql
        arrow = self._read(shorter, {}).slice(0, n)
        return _result(arrow)

    @contextmanager
    def stream(self, sql: str) -> Iterator[pa.RecordBatchReader]:
        """The rows of `query` as they come, for results that need not fit into memory.

        Raises:
            InputError: as `query`.
            StoreError: the tables were compacted meanwhile.
        """
        found: dict[str, list[str]] = {}
        tables: set[str] = set()
        try:
            text = check_statement(self._planner, sql, {})
            tables = _mentioned(text, self._needs)
            found = self._live(tables)
            try:
                self._fill_views(found)
            except FileNotFoundError as error:  # An object that went after the listing.
                raise self._compacted() from error
            with self._connection.cursor() as cursor:
                # Not `execute`, which would make the whole result first.
                yield cursor.sql(text).to_arrow_reader(_BATCH)
        except (duckdb.Error, pa.ArrowException) as error:
            if self._live(tables) != found:
                raise self._compacted() from error
            raise InputError(f"SQL: {self._described(error)}") from error

    def _compacted(self) -> StoreError:
        return StoreError(f"{self._store.root}: the store was compacted meanwhile: ask again")

    def fetch(self, sql: str, **parameters: Any) -> list[tuple[Any, ...]]:
        """The rows of `query`."""
        return self.query(sql, **parameters).rows

    def records(self, sql: str, **parameters: Any) -> list[dict[str, Any]]:
        """The rows of `query` by column name."""
        result = self.query(sql, **parameters)
        return [dict(zip(result.columns, row, strict=True)) for row in result.rows]

    def _connect(self, *settings: str) -> duckdb.DuckDBPyConnection:
        # No Python variable of the caller may be read as a table.
        connection = duckdb.connect(":memory:", config={"python_enable_replacements": False})
        make_views(connection, {})
        allowed = ", ".join(map(quote, self._source.attach(connection)))
        for setting in (
            *settings,
            "TimeZone = 'UTC'",
            # More than that is spilled to disk.
            f"memory_limit = '{_MEMORY}'",
            f"temp_directory = {quote(str(self._spill))}",
            "allow_persistent_secrets = false",
            "autoinstall_known_extensions = false",
            "autoload_known_extensions = false",
            f"allowed_directories = [{allowed}]",
            "enable_external_access = false",
            "lock_configuration = true",
        ):
            connection.execute(f"SET {setting}")
        return connection

    def _read(self, sql: str, parameters: dict[str, Any]) -> pa.Table:
        try:
            text = check_statement(self._planner, sql, parameters)
            tables = _mentioned(text, self._needs)

            def answer(found: dict[str, list[str]]) -> pa.Table:
                self._fill_views(found)
                return self._answer(text, parameters)

            return self._store.read_live(lambda: self._live(tables), answer)
        except duckdb.Error as error:
            self._source.refresh()  # A link in the store explains more than DuckDB's refusal.
            raise InputError(f"SQL: {self._described(error)}") from error

    def _described(self, error: Exception) -> str:
        return self._source.restored(_one_line(error)) + _if_damaged(error)

    def _answer(self, text: str, parameters: dict[str, Any]) -> pa.Table:
        # A cursor each: with DuckDB 2.0 an undrained result fails the next query.
        with self._connection.cursor() as cursor, warnings.catch_warnings():
            # Planned once this way, which costs less than the copy that it warns of.
            warnings.filterwarnings("ignore", message="Arrow output on a DB-API result")
            arrow = cursor.execute(text, parameters or None).to_arrow_table()
        if arrow is None:
            raise InputError("SQL: the statement has no result")
        return arrow

    def _live(self, tables: set[str]) -> dict[str, list[str]]:
        """The files of each table that count."""
        self._source.refresh()
        listing = self._source.listing
        return {name: self._store.manifests.live(name, listing=listing) for name in sorted(tables)}

    def _fill_views(self, found: dict[str, list[str]]) -> None:
        for name, paths in found.items():
            self._source.fetch(paths)
            sql = table_view(TABLES[name], [self._source.name(path) for path in paths])
            if self._filled.get(name) != sql:
                self._connection.execute(sql)
                self._filled[name] = sql


def _result(arrow: pa.Table) -> QueryResult:
    cells = [column.to_pylist(maps_as_pydicts="strict") for column in arrow.columns]
    return QueryResult(tuple(arrow.column_names), list(zip(*cells, strict=True)), arrow)


def _needs(views: dict[str, str]) -> dict[str, set[str]]:
    """Tables behind each name that a statement may use."""
    needs = {name: {name} for name in TABLES}
    # A named query may use another one, so as often as there are queries at most.
    for _ in views:
        needs |= {name: _mentioned(sql, needs) for name, sql in views.items()}
    return needs


def _mentioned(sql: str, needs: dict[str, set[str]]) -> set[str]:
    """Tables that a statement may read; rather too many than one too few."""
    words = set(re.findall(r"\w+", sql.lower()))
    if words & {"query", "query_table", "json_execute_serialized_sql"}:
        # These functions take names or SQL as text, put together in any way.
        return set(TABLES)
    return set().union(*(needs[word] for word in words if word in needs))


def _if_damaged(error: Exception) -> str:
    """What to do if it is a file that is at fault, and not the statement."""
    damaged = isinstance(error, (duckdb.InvalidInputException, duckdb.IOException))
    if not (damaged and "/part-" in str(error)):
        return ""
    return "; `seal verify` names all that is damaged, and resuming the run mends it"


def _one_line(error: Exception) -> str:
    """Message and hint, without the quoted query that follows them."""
    message = str(error).partition("\n\nLINE ")[0]
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    if lines and "Traceback (most recent call last)" in lines[0]:
        # From Python code that DuckDB called: only the last line says what it was.
        return lines[-1].partition(": ")[2] or lines[-1]
    return "; ".join(lines)
