"""Reads question data from one JSON, JSONL or Parquet file in SQuAD form."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from seal_core.domains.file_rows import Row, json_rows, line_rows, read_text
from seal_core.domains.hub import read_parquet
from seal_core.domains.records import Parsed, parse_records
from seal_core.errors import InputError
from seal_core.places import user_path


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
        if file.is_dir():
            raise InputError(f"{path} is a folder: name a file, or set data.source to 'dataset'")
        raise InputError(f"{path}: the ending {file.suffix!r} is not known: use one of {known}")
    if not file.exists():
        raise InputError(f"{path}: there is no such file: check data.path and data.heldout_path")
    if not file.is_file():
        kind = "a folder" if file.is_dir() else "no plain file"
        raise InputError(f"{path}: it is {kind}: name a file, or set data.source = 'dataset'")
    return parse_records(file.name, reader(file))


def _json(file: Path) -> Iterator[Row]:
    return json_rows(_text(file), file.name)


def _jsonl(file: Path) -> Iterator[Row]:
    return line_rows(_text(file), file.name)


def _text(file: Path) -> str:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}): check its rights") from None
    return read_text(data, file.name)


_READERS: dict[str, Callable[[Path], Iterable[Row]]] = {
    ".json": _json,
    ".jsonl": _jsonl,
    ".parquet": read_parquet,
}
