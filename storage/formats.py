"""Query results as an aligned table, CSV, JSON or a Parquet file."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from seal_core.errors import InputError
from storage.catalog import QueryResult
from storage.files import LocalFiles

FORMATS = ("table", "csv", "json", "parquet")
_MAX_WIDTH = 80


def render(result: QueryResult, form: str) -> str:
    """A result as text, without a final line break.

    Raises:
        InputError: the format is none of text.
    """
    writers = {"table": _table, "csv": _csv, "json": _json}
    if form not in writers:
        raise InputError(f"format {form!r} is not text: choose one of {', '.join(writers)}")
    return writers[form](result)


def write_parquet(result: QueryResult, path: Path) -> None:
    """Writes a result to a Parquet file, replacing it whole.

    Raises:
        InputError: the path is not writable.
    """
    sink = io.BytesIO()
    pq.write_table(result.arrow, sink, compression="zstd")
    target = path.absolute()
    try:
        LocalFiles(target.parent).write(target.name, sink.getvalue())
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from error


def _table(result: QueryResult) -> str:
    rows = [[_cell(value) for value in row] for row in result.rows]
    numeric = [
        any(isinstance(row[i], (int, float)) for row in result.rows)
        for i in range(len(result.columns))
    ]
    widths = [
        max([len(name), *(len(row[i]) for row in rows)]) for i, name in enumerate(result.columns)
    ]
    lines = [list(result.columns), ["-" * width for width in widths], *rows]
    text = [
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        ).rstrip()
        for line in lines
    ]
    count = len(result.rows)
    return "\n".join([*text, f"({count} row{'' if count == 1 else 's'})"])


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    text = value if isinstance(value, str) else _dump(value)
    # Generated text must not move the cursor or change the terminal's colours.
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return text if len(text) <= _MAX_WIDTH else text[: _MAX_WIDTH - 1] + "…"


def _csv(result: QueryResult) -> str:
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(result.columns)
    for row in result.rows:
        writer.writerow([_dump(v) if isinstance(v, (list, dict)) else v for v in row])
    return sink.getvalue().removesuffix("\n")


def _json(result: QueryResult) -> str:
    rows = [dict(zip(result.columns, row, strict=True)) for row in result.rows]
    return json.dumps(_plain(rows), indent=2, ensure_ascii=False, default=str)


def _dump(value: Any) -> str:
    return json.dumps(_plain(value), ensure_ascii=False, default=str)


def _plain(value: Any) -> Any:
    """JSON has no NaN and no infinity."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
