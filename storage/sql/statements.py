"""Decides whether a statement only reads, before it runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import duckdb

from seal_core.errors import InputError

_WRITES = ("COPY", "INSERT", "UPDATE", "DELETE", "MERGE", "CREATE", "ATTACH", "EXPORT")


def check_statement(
    connection: duckdb.DuckDBPyConnection, sql: str, parameters: dict[str, Any]
) -> str:
    """The statement, if it is one that only reads.

    Args:
        connection: Plans the statement; with the optimizer off, so that nothing is left out.

    Raises:
        InputError: it is not one, or would write.
        duckdb.Error: it is wrong.
    """
    statements = connection.extract_statements(sql)
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
        _refuse_writes(connection, text, parameters)
    return text


def _refuse_writes(
    connection: duckdb.DuckDBPyConnection, text: str, parameters: dict[str, Any]
) -> None:
    """In DuckDB 2.0 a SELECT can write, `WITH x AS (COPY …)`; its plan tells."""
    with connection.cursor() as cursor:
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
