"""Rows of a JSON, JSON Lines or CSV file, each with its place, as the file has them.

No type is guessed and nothing is converted; a file that does not say plainly what is in it is
refused.
"""

from __future__ import annotations

import ast
import csv
import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from seal_core.domains.json_text import decode_text, parse_json, repeated
from seal_core.domains.records import ANSWER_FIELDS, ROW_FIELDS
from seal_core.errors import InputError

_LINES = {".jsonl", ".ndjson"}

Row = tuple[str, Any]
"""Position ("train.json: row 3") and value."""


def read_text(data: bytes, name: str) -> str:
    """The text of a file.

    Raises:
        InputError: it is empty, or not UTF-8.
    """
    text = decode_text(data, name)
    if not text.strip():
        raise InputError(f"{name}: the file is empty: write passages with questions to it")
    return text


def json_rows(text: str, name: str) -> Iterator[Row]:
    """Rows of one JSON text: a list, or SQuAD's `{"data": [...]}`.

    Raises:
        InputError: it is something else.
    """
    try:
        value = parse_json(text)
    except ValueError as error:
        fix = "rename it to .jsonl if it has one object per line, else correct it there"
        raise InputError(f"{name}: it is not JSON ({error}): {fix}") from None
    if isinstance(value, dict):
        value = _once(name, value).get("data")
    if not isinstance(value, list):
        raise InputError(
            f"{name}: its top level must be a list of passages, or SQuAD's {{'data': [...]}}"
        )
    for i, row in enumerate(value, start=1):
        where = f"{name}: row {i}"
        yield where, _once(where, row)


def line_rows(text: str, name: str) -> Iterator[Row]:
    """Rows of JSON Lines; blank lines are skipped, and counted.

    Raises:
        InputError: a line is not JSON.
    """
    for i, line in enumerate(text.split("\n"), start=1):
        # Files that were joined have a byte order mark on any line.
        part = line.strip().removeprefix("\ufeff")
        if not part:
            continue
        where = f"{name}: row {i}"
        try:
            row = parse_json(part)
        except ValueError as error:
            raise InputError(
                f"{where}: it is not JSON ({error}): put one object on each line"
            ) from None
        yield where, _once(where, row)


def any_json_rows(text: str, name: str) -> Iterator[Row]:
    """Rows of JSON Lines or, in a file of another ending, of either form: both are called .json."""
    first = text.lstrip().partition("\n")[0]
    lines = _LINES & set(Path(name).suffixes) or _is_row(first)
    yield from line_rows(text, name) if lines else json_rows(text, name)


def _is_row(line: str) -> bool:
    """Whether a line is an object, and not the whole of SQuAD's `{"data": [...]}`."""
    if not line.startswith("{"):
        return False
    try:
        value = parse_json(line)
    except ValueError:
        return False
    is_squad = isinstance(value.get("data"), list) and not value.keys() & set(ROW_FIELDS)
    return not is_squad


def csv_rows(text: str, name: str, separator: str = ",") -> Iterator[Row]:
    """Rows of CSV with a header; all values are texts.

    Raises:
        InputError: a column or a value too many or too few, or a quote that does not end.
    """
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    number = 0
    try:
        header = next(rows)
        for column in header:
            if header.count(column) > 1:
                raise InputError(f"{name}: the column {column!r} is given twice: keep one of them")
        for number, row in enumerate(filter(None, rows), start=1):
            where = f"{name}: row {number}"
            if len(row) != len(header):
                raise InputError(
                    f"{where}: it has {len(row)} values for {len(header)} columns: quote a value "
                    f"that has {separator!r} or a line break in it"
                )
            yield where, plain_cells(where, dict(zip(header, row, strict=True)))
    except csv.Error as error:
        raise InputError(
            f"{name}: row {number + 1}: it is not CSV ({error}): correct it there"
        ) from None


def plain_cells(where: str, row: dict[str, Any]) -> dict[str, Any]:
    """A row of CSV, none of whose answers is a list or an object as some library prints it.

    Raises:
        InputError: one is, and would be taken for the answer itself.
    """
    for field in ANSWER_FIELDS:
        value = row.get(field)
        if isinstance(value, str) and _is_container(value.strip()):
            raise InputError(
                f"{where}: {field!r} is a list or an object written as a text ({value!r:.40}): "
                "give the answer's own text, or use JSON or Parquet"
            )
    return row


def _is_container(text: str) -> bool:
    """Whether JSON or Python reads a text as one; `[sic]` and `{x}` are texts."""
    if not text.startswith(("{", "[")):
        return False
    try:
        parse_json(text)
    except ValueError:
        pass
    else:
        return True
    try:
        with warnings.catch_warnings(action="ignore"):
            node = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    # NumPy prints calls of `array` as an object's values.
    if isinstance(node, ast.Dict):
        return all(isinstance(key, ast.Constant) for key in node.keys)
    values = (ast.Constant, ast.Dict, ast.List, ast.Tuple, ast.UnaryOp)
    is_list = isinstance(node, (ast.List, ast.Set))
    return is_list and all(isinstance(part, values) for part in node.elts)


def _once(where: str, value: Any) -> Any:
    place = repeated(value)
    if place is not None:
        raise InputError(f"{where}: {place} is given twice: keep one of them")
    return value
