"""Tries out what a store needs of an object storage server."""

from __future__ import annotations

from storage.files.base import Objects

_NEVER = '"00000000000000000000000000000000"'


def conditional_writes(files: Objects, path: str) -> str | None:
    """None if the server refuses a PUT whose condition does not hold, else what it does instead.

    Args:
        path: Of a test object, which is removed again.

    Raises:
        InputError: the credentials do not allow to write, read or delete.
        StoreConnectionError: the server does not answer, or knows no conditions at all.
    """
    if not files.create(path, b"1"):
        return "a new object counts as one that is there already"
    try:
        if files.create(path, b"2") or files.read(path) != b"1":
            return "the server ignores If-None-Match: two machines could execute one run"
        if files.swap(path, b"3", _NEVER) or files.read(path) != b"1":
            return "the server ignores If-Match: two machines could execute one run"
    finally:
        files.delete(path)
    return None
