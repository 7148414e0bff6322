"""Rows of a JSON, JSON Lines or CSV file, each with its place, as the file has them.

No type is guessed and nothing is converted; a file that does not say plainly what is in it is
refused.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from seal_core.domains.json_text import decode_text, is_json, parse_json, repeated
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
    lines = _LINES & set(Path(name).suffixes) or (first.startswith("{") and is_json(first))
    yield from line_rows(text, name) if lines else json_rows(text, name)


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
            yield where, dict(zip(header, row, strict=True))
    except csv.Error as error:
        raise InputError(
            f"{name}: row {number + 1}: it is not CSV ({error}): correct it there"
        ) from None


def _once(where: str, value: Any) -> Any:
    place = repeated(value)
    if place is not None:
        raise InputError(f"{where}: {place} is given twice: keep one of them")
    return value
