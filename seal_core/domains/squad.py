"""Reads question data from one JSON, JSONL or Parquet file in SQuAD form."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from seal_core.domains.hub import read_parquet
from seal_core.domains.json_text import parse, parse_lines, read_text
from seal_core.domains.records import Parsed, parse_records
from seal_core.errors import InputError

Row = tuple[str, Any]


def read_squad(path: str) -> Parsed:
    """Reads a file; the form of its rows is told by their fields (see `records`).

    Args:
        path: A file that ends in .json, .jsonl or .parquet.

    Raises:
        InputError: no such file, unknown ending, broken file, or a bad row.
    """
    file = Path(path)
    reader = _READERS.get(file.suffix.lower())
    if reader is None:
        known = ", ".join(_READERS)
        raise InputError(f"{path}: the ending {file.suffix!r} is not known: use one of {known}")
    if not file.exists():
        raise InputError(f"{path}: there is no such file: check data.path and data.heldout_path")
    if not file.is_file():
        raise InputError(f"{path}: it is a folder: name a file, or set data.source = 'dataset'")
    return parse_records(file.name, reader(file))


def _json(file: Path) -> Iterator[Row]:
    fix = "rename it to .jsonl if it has one object per line, else correct it there"
    value = parse(read_text(file), file.name, fix)
    if isinstance(value, dict) and "data" in value:
        value = value["data"]
    if not isinstance(value, list):
        raise InputError(
            f"{file.name}: its top level must be a list of passages, or SQuAD's {{'data': [...]}}"
        )
    for i, row in enumerate(value, start=1):
        yield f"{file.name}: row {i}", row


def _jsonl(file: Path) -> Iterator[Row]:
    yield from parse_lines(read_text(file), file.name)


def _parquet(file: Path) -> Iterator[Row]:
    for i, row in enumerate(read_parquet(file), start=1):
        yield f"{file.name}: row {i}", row


_READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".json": _json,
    ".jsonl": _jsonl,
    ".parquet": _parquet,
}
