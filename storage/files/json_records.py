"""Small JSON records with their own digest: a damaged one is found out, whatever its damage."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from seal_core.errors import StoreError
from storage.files.base import Files


def write_record(files: Files, path: str, value: Any) -> None:
    """Replaces a record whole; `value` must be plain JSON data without NaN."""
    files.write(path, encode_record(value))


def read_record(files: Files, path: str) -> Any:
    """The value of a record.

    Raises:
        FileNotFoundError: there is none.
        StoreError: it is damaged.
    """
    return decode_record(files.read(path), path)


def decode_record(data: bytes, path: str) -> Any:
    """The value in a record's bytes.

    Raises:
        StoreError: not one bit may differ from what was written.
    """
    try:
        value = json.loads(data)["value"]
        whole = encode_record(value) == data
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path}: the record is unreadable ({type(error).__name__})") from error
    if not whole:
        raise StoreError(f"{path}: the record's digest does not match")
    return value


def encode_record(value: Any) -> bytes:
    """The bytes of a record; `value` must be plain JSON data without NaN."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    return f'{{"sha256":"{sha256}","value":{text}}}\n'.encode()
