"""Read-only SQL over a store: a DuckDB view per table and per named query."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from seal_core.errors import InputError
from storage.queries import list_queries
from storage.store import Store
from storage.tables import PARTITIONS, TABLES, Table

_WRITES = ("COPY", "INSERT", "UPDATE", "DELETE", "MERGE", "CREATE", "ATTACH", "EXPORT")


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
        # No Python variable of the caller may be read as a table.
        self._connection = duckdb.connect(":memory:", config={"python_enable_replacements": False})
        self._filled: set[str] = set()
        self._queries = list_queries()
        for table in TABLES.values():
            self._connection.execute(_view(table.name, _empty(table)))
        for query in self._queries:
            self._connection.execute(_view(query.name, query.sql))
        self._confine()

    def __enter__(self) -> Catalog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Frees DuckDB's memory."""
        self._connection.close()

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
        self._fill_views()
        try:
            text = self._check(sql, parameters)
            # A cursor each: with DuckDB 2.0 an undrained result fails the next query.
            with self._connection.cursor() as cursor:
                arrow = cursor.sql(text, params=parameters or None).to_arrow_table()
        except duckdb.Error as error:
            raise InputError(f"SQL: {_one_line(error)}") from error
        columns = tuple(arrow.column_names)
        cells = [column.to_pylist() for column in arrow.columns]
        return QueryResult(columns, list(zip(*cells, strict=True)), arrow)

    def fetch(self, sql: str, **parameters: Any) -> list[tuple[Any, ...]]:
        """The rows of `query`."""
        return self.query(sql, **parameters).rows

    def records(self, sql: str, **parameters: Any) -> list[dict[str, Any]]:
        """The rows of `query` by column name."""
        result = self.query(sql, **parameters)
        return [dict(zip(result.columns, row, strict=True)) for row in result.rows]

    def _fill_views(self) -> None:
        """DuckDB refuses a glob without a match, so a view reads files from the first part on."""
        for name in TABLES.keys() - self._filled:
            if next(self._store.root.glob(f"{name}/run=*/round=*/part-*.parquet"), None):
                sql = f"FROM ({_empty(TABLES[name])}) UNION ALL BY NAME {self._scan(name)}"
                self._connection.execute(_view(name, sql))
                self._filled.add(name)

    def _scan(self, name: str) -> str:
        pattern = f"{_escape_glob(str(self._store.root))}/{name}/run=*/round=*/part-*.parquet"
        kinds = ", ".join(f"'{column}': {kind}" for column, kind in PARTITIONS.items())
        return (
            f"SELECT * FROM read_parquet({_quote(pattern)}, hive_partitioning = true, "
            f"hive_types = {{{kinds}}}, union_by_name = true)"
        )

    def _confine(self) -> None:
        root = str(self._store.root)
        # The root is compared with the text of the pattern, so its escaped form is allowed too.
        allowed = ", ".join(_quote(path) for path in sorted({root, _escape_glob(root)}))
        spill = Path(tempfile.gettempdir()) / f"seal-duckdb-{os.getpid()}"
        for setting in (
            "TimeZone = 'UTC'",
            f"temp_directory = {_quote(str(spill))}",
            "autoinstall_known_extensions = false",
            "autoload_known_extensions = false",
            f"allowed_directories = [{allowed}]",
            "enable_external_access = false",
            "lock_configuration = true",
        ):
            self._connection.execute(f"SET {setting}")

    def _check(self, sql: str, parameters: dict[str, Any]) -> str:
        statements = self._connection.extract_statements(sql)
        if len(statements) != 1:
            raise InputError(f"SQL: give one statement, not {len(statements)}")
        kind, text = statements[0].type, statements[0].query
        if kind == duckdb.StatementType.EXPLAIN:
            _refuse_analyze(text)
        elif kind != duckdb.StatementType.SELECT:
            hint = "; PIVOT needs ON … IN (…)" if kind.name == "MULTI" else ""
            raise InputError(
                f"SQL: {kind.name} is not allowed: only SELECT, WITH, DESCRIBE, SHOW, SUMMARIZE "
                f"and EXPLAIN read{hint}"
            )
        else:
            self._refuse_writes(text, parameters)
        return text

    def _refuse_writes(self, text: str, parameters: dict[str, Any]) -> None:
        """In DuckDB 2.0 a SELECT can write, `WITH x AS (COPY …)`; its plan tells."""
        with self._connection.cursor() as cursor:
            plan = cursor.execute(f"EXPLAIN (FORMAT json) {text}", parameters or None).fetchall()
        for name in _operators(json.loads(plan[0][1])):
            if name.startswith(_WRITES) or "COPY_TO_FILE" in name:
                raise InputError(f"SQL: the query would write ({name}); only reading is allowed")


def _refuse_analyze(text: str) -> None:
    """EXPLAIN only plans, but EXPLAIN ANALYZE runs the statement, be it a COPY."""
    words = [
        text[start:].lstrip()[:7].upper()
        for start, kind in duckdb.tokenize(text)
        if kind != duckdb.token_type.comment
    ]
    if len(words) > 1 and (words[1].startswith("(") or words[1] == "ANALYZE"):
        raise InputError("SQL: EXPLAIN ANALYZE is not allowed: use EXPLAIN alone")


def _operators(plan: Any) -> Iterator[str]:
    if isinstance(plan, list):
        for item in plan:
            yield from _operators(item)
    elif isinstance(plan, dict):
        yield str(plan.get("name", "")).upper()
        yield from _operators(plan.get("children", []))


def _empty(table: Table) -> str:
    columns = PARTITIONS | {c.name: c.sql for c in table.columns if c.name not in PARTITIONS}
    cells = ", ".join(f'NULL::{kind} AS "{name}"' for name, kind in columns.items())
    return f"SELECT {cells} WHERE false"


def _view(name: str, sql: str) -> str:
    return f'CREATE OR REPLACE VIEW "{name}" AS {sql}'


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _escape_glob(path: str) -> str:
    return "".join(f"[{char}]" if char in "*?[" else char for char in path)


def _one_line(error: Exception) -> str:
    """Message and hint, without the quoted query that follows them."""
    message = str(error).partition("\n\nLINE ")[0]
    return "; ".join(line.strip() for line in message.splitlines() if line.strip())
