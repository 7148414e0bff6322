"""Query results as an aligned table, CSV, JSON or a Parquet file; of any length, but for tables."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from seal_core.errors import InputError
from storage.files.base import temporary_name
from storage.sql.catalog import QueryResult

FORMATS = ("table", "csv", "json", "parquet")
_MAX_WIDTH = 80


def render(result: QueryResult, form: str) -> str:
    """A result as text, without a final line break.

    Raises:
        InputError: the format is none of text.
    """
    if form == "table":
        return _table(result)
    sink = io.StringIO()
    write_text(result.arrow.to_reader(), form, sink)
    return sink.getvalue().removesuffix("\n")


def write_text(reader: pa.RecordBatchReader, form: str, out: IO[str]) -> None:
    """Writes CSV or JSON as the rows come, with a final line break.

    Raises:
        InputError: the format is neither.
    """
    writers: dict[str, Callable[[pa.RecordBatchReader, IO[str]], None]]
    writers = {"csv": _csv, "json": _json}
    if form not in writers:
        raise InputError(f"format {form!r} is not text: choose one of {', '.join(writers)}")
    writers[form](reader, out)


def write_parquet(reader: pa.RecordBatchReader, path: Path) -> None:
    """Writes a Parquet file as the rows come."""
    with pq.ParquetWriter(path, reader.schema, compression="zstd") as writer:
        for batch in reader:
            writer.write_batch(batch)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name to write to; afterwards it replaces the file whole, after an error never.

    Raises:
        InputError: the path is not writable.
    """
    target = path.absolute()
    temporary = target.with_name(temporary_name(target.name))
    try:
        yield temporary
        os.replace(temporary, target)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


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
    text = visible(text)
    return text if len(text) <= _MAX_WIDTH else text[: _MAX_WIDTH - 1] + "…"


def visible(text: str, keep: str = "") -> str:
    """Generated text that cannot move the cursor or change the terminal's colours.

    Args:
        keep: Characters to leave as they are, such as line breaks.
    """
    return "".join(c if c.isprintable() or c in keep else repr(c)[1:-1] for c in text)


def _csv(reader: pa.RecordBatchReader, out: IO[str]) -> None:
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(reader.schema.names)
    for row in _rows(reader):
        writer.writerow([_dump(v) if isinstance(v, (list, dict)) else v for v in row])


def _json(reader: pa.RecordBatchReader, out: IO[str]) -> None:
    names, before = reader.schema.names, "[\n"
    if twice := [name for name, n in Counter(names).items() if n > 1]:
        raise InputError(f"two columns are named {twice[0]!r}: give one another name with AS")
    for row in _rows(reader):
        item = dict(zip(names, row, strict=True))
        text = json.dumps(_plain(item), indent=2, ensure_ascii=False, default=str)
        out.write(before + "\n".join(f"  {line}" for line in text.split("\n")))
        before = ",\n"
    out.write("[]\n" if before == "[\n" else "\n]\n")


def _rows(reader: Iterable[pa.RecordBatch]) -> Iterator[tuple[Any, ...]]:
    for batch in reader:
        yield from zip(
            *(column.to_pylist(maps_as_pydicts="strict") for column in batch.columns), strict=True
        )


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
