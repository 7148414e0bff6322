"""Reads JSON that a user gives: a fault is one line that names the file and the place in it."""

from __future__ import annotations

import codecs
import json
from typing import Any

from pydantic_core import from_json

from seal_core.errors import InputError


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


def repeated(value: Any, path: str = "") -> str | None:
    """Where an object within a value of `parse_json` has a key twice: "questions[2]: 'answer'"."""
    if isinstance(value, dict):
        twice = next((key for key, part in value.items() if isinstance(part, Repeated)), None)
        if twice is not None:
            return f"{path}: {twice!r}" if path else repr(twice)
        parts = [(f"{path}.{key}" if path else key, part) for key, part in value.items()]
    elif isinstance(value, list):
        parts = [(f"{path}[{i}]", part) for i, part in enumerate(value, start=1)]
    else:
        return None
    return next(filter(None, (repeated(part, place) for place, part in parts)), None)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        found[key] = Repeated() if key in found else value
    return found
