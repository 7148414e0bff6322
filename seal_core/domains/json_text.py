"""Parses the JSON of data files; what Python chokes on or passes over is named with its place."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from seal_core.errors import InputError

_LIST = re.compile(r'\s*(?:\{.*?"data"\s*:\s*)?\[', re.DOTALL)
_BETWEEN = re.compile(r"[\s,]*")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class NotJson(InputError):
    """A text is no JSON at all."""


class _KeyTwice(ValueError):
    """A key stands twice in one object, and Python would keep the last without a word."""


def read_text(file: Path) -> str:
    """A file's text, without the mark that some programs begin it with.

    Raises:
        InputError: it cannot be read, is empty, or is not UTF-8.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{file.name}: it is not UTF-8 ({error}): save it as UTF-8") from None
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}): check its rights") from None
    if not text.strip():
        raise InputError(f"{file.name}: the file is empty: write passages with questions to it")
    if "\0" in text:
        line = _line(text, text.index("\0"))
        raise InputError(
            f"{file.name}: line {line} has a NUL byte, as files in UTF-16 or damaged ones have: "
            "save it as UTF-8"
        )
    return text


def parse(text: str, where: str, fix: str) -> Any:
    """The value of a JSON text.

    Args:
        where: Name of the file, for messages; the place of a fault in it is added.
        fix: What to do if it is no JSON at all.

    Raises:
        NotJson: it is none.
        InputError: it has a key twice in one object, or a number or nesting beyond any sense.
    """
    return _parse(text, where, fix, rows=True)


def parse_lines(text: str, name: str) -> list[tuple[str, Any]]:
    """Position and value of each line that is not blank.

    Raises:
        InputError: as `parse`, for the first bad line.
    """
    places = ((f"{name}: row {i}", line) for i, line in enumerate(text.split("\n"), start=1))
    fix = "put one object on each line"
    return [(place, _parse(line, place, fix, rows=False)) for place, line in places if line.strip()]


def check_text(file: Path) -> None:
    """Passes if another library may read a file of JSON, as one value or one on each line.

    Libraries replace half a surrogate pair, keep one of two equal keys, or crash on deep nesting.

    Raises:
        InputError: with the place and the fault.
    """
    text = read_text(file)
    placed = _whole(text, file) or parse_lines(text, file.name)
    if not _SURROGATE.search(text):
        return
    for place, row in placed:
        try:
            json.dumps(row, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise InputError(
                f"{place} has a broken character (half of a surrogate pair): "
                "save the file as UTF-8 again"
            ) from None


def _whole(text: str, file: Path) -> list[tuple[str, Any]]:
    """The rows of a file that is one JSON value; none if it has a value on each line."""
    if file.suffix.lower() != ".json":
        return []
    try:
        value = parse(text, file.name, "")
    except NotJson:
        return []
    rows = value if isinstance(value, list) else [value]
    return [(f"{file.name}: row {i}", row) for i, row in enumerate(rows, start=1)]


def _parse(text: str, where: str, fix: str, *, rows: bool) -> Any:
    """See `parse`; if the text has no rows, its place is all in `where`."""
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise NotJson(f"{where}: it is not JSON ({error}): {fix}") from None
    except _KeyTwice as error:
        said = f"an object has the key {error} twice: remove one of them"
    except RecursionError:
        said = "lists or objects are nested too deeply: take the field out"
    except ValueError:
        limit = sys.get_int_max_str_digits()
        said = f"a number has more than {limit} digits: take it out, or write it as a text"
    raise InputError(f"{where}: {_place(text) if rows else ''}{said}")


def _place(text: str) -> str:
    """Row and line of the first row that cannot be parsed."""
    found = _LIST.match(text)
    at, row = (found.end() if found else 0), 1
    while True:
        at = _space(text, at)
        try:
            _, at = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            return f"row {row} (line {_line(text, at)}): "
        row += 1


def _space(text: str, at: int) -> int:
    found = _BETWEEN.match(text, at)
    return at if found is None else found.end()


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise _KeyTwice(repr(next(name for name in names if names.count(name) > 1)))
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_object)
