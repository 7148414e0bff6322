"""Reads question data from one JSON, JSONL or Parquet file in SQuAD form."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from seal_core.domains.hub import read_parquet
from seal_core.domains.json_text import decode_text, parse_json
from seal_core.domains.records import Parsed, parse_records
from seal_core.errors import InputError
from seal_core.places import user_path

Row = tuple[str, Any]


def read_squad(path: str) -> Parsed:
    """Reads a file; the form of its rows is told by their fields (see `records`).

    Args:
        path: A file that ends in .json, .jsonl or .parquet.

    Raises:
        InputError: no such file, unknown ending, broken file, or a bad row.
    """
    file = user_path(path)
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
    try:
        value = parse_json(_text(file))
    except ValueError as error:
        fix = "rename it to .jsonl if it has one object per line, else correct it there"
        raise InputError(f"{file.name}: it is not JSON ({error}): {fix}") from None
    if isinstance(value, dict) and "data" in value:
        value = value["data"]
    if not isinstance(value, list):
        raise InputError(
            f"{file.name}: its top level must be a list of passages, or SQuAD's {{'data': [...]}}"
        )
    for i, row in enumerate(value, start=1):
        yield f"{file.name}: row {i}", row


def _jsonl(file: Path) -> Iterator[Row]:
    for i, line in enumerate(_text(file).split("\n"), start=1):
        # Files that were joined have a byte order mark on any line.
        text = line.strip().removeprefix("\ufeff")
        if not text:
            continue
        try:
            yield f"{file.name}: row {i}", parse_json(text)
        except ValueError as error:
            raise InputError(
                f"{file.name}: row {i}: it is not JSON ({error}): put one object on each line"
            ) from None


def _parquet(file: Path) -> Iterator[Row]:
    yield from read_parquet(file)


def _text(file: Path) -> str:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}): check its rights") from None
    text = decode_text(data, file.name)
    if not text.strip():
        raise InputError(f"{file.name}: the file is empty: write passages with questions to it")
    return text


_READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".json": _json,
    ".jsonl": _jsonl,
    ".parquet": _parquet,
}
