"""Reads JSON that a user gives: a fault is one line that names the file and the place in it."""

from __future__ import annotations

import bz2
import codecs
import gzip
import json
import lzma
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from seal_core.errors import InputError

_OPEN: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
_ENDINGS = (".json", ".jsonl", ".ndjson")


class Repeated:
    """Stands for the value of a key that an object has twice: which is meant, nobody knows."""


def decode_text(data: bytes, name: str) -> str:
    """The text of a file in UTF-8, with or without a byte order mark.

    Raises:
        InputError: It is in another encoding.
    """
    # JSON begins with characters of ASCII, so that zero bytes there tell other encodings.
    encoding = json.detect_encoding(data)
    if not encoding.startswith("utf-8"):
        raise InputError(f"{name}: it is {encoding.upper()}, not UTF-8: save it as UTF-8")
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{name}: line {line}: it is not UTF-8 (byte 0x{data[error.start]:02x}): "
            "save it as UTF-8"
        ) from None


def parse_json(text: str) -> Any:
    """What JSON text stands for; values of keys that stand twice in an object are `Repeated`.

    Raises:
        ValueError: It is not JSON, or no table of passages could be like that; says where.
    """
    # This parser, and not the standard library's, has a place for integers of thousands of
    # digits and for thousands of brackets, and refuses `NaN`. It does not tell repeated keys.
    from_json(text, allow_inf_nan=False)
    return json.loads(text, object_pairs_hook=_object)


def check_depth(folder: Path) -> None:
    """Refuses JSON files whose depth would overflow the stack of `datasets`' parser, in C.

    Whether they are JSON at all is left to that parser to say.

    Raises:
        InputError: A file is nested too deeply, or cannot be read.
    """
    for file in sorted(folder.rglob("*")):
        plain = file.with_suffix("") if file.suffix.lower() in _OPEN else file
        if plain.suffix.lower() in _ENDINGS and file.is_file():
            for place, text in _pieces(file):
                if _is_deep(text):
                    raise InputError(
                        f"{file}: {place}it is nested too deeply to be read: correct it there"
                    )


def _pieces(file: Path) -> Iterator[tuple[str, str]]:
    """A file's lines, and all of it, as JSON may span lines; each with its place."""
    try:
        with _OPEN.get(file.suffix.lower(), open)(file, "rb") as stream:
            text = stream.read().decode(errors="replace")
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise InputError(f"{file}: cannot be read ({error}): write it again") from None
    for number, line in enumerate(text.split("\n"), start=1):
        yield f"line {number}: ", line
    yield "", text


def _is_deep(text: str) -> bool:
    try:
        json.loads(text, parse_int=str)
    except RecursionError:
        return True
    except ValueError:
        return False
    return False


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        found[key] = Repeated() if key in found else value
    return found
