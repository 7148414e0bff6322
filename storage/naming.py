"""Turns names into safe paths, and paths back into names; nothing else builds a path."""

from __future__ import annotations

import hashlib
import re

from seal_core.errors import InputError, StoreError
from seal_core.types import TableRef
from storage.tables import TABLES

_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_IDENTITY = re.compile(r"[0-9a-f]{16,64}")
_PART = re.compile(
    rf"(?P<table>{'|'.join(TABLES)})/run=(?P<run>{_RUN.pattern})/round=(?P<round>-1|\d+)"
    r"/part-[0-9a-f]{16}\.parquet"
)


def check_run(run: str) -> str:
    """A run's name, if it is one.

    Raises:
        InputError: it could not stand in a path.
    """
    if not _RUN.fullmatch(run):
        raise InputError(
            f"run name {run!r}: use 1 to 100 letters, digits, '.', '_' or '-', "
            "starting with a letter or digit"
        )
    return run


def part_path(table: str, run: str, round_index: int, identity: str) -> str:
    """Path of the part that the stage of this identity writes.

    Raises:
        ValueError: no such table or round, or the identity is no hex digest.
    """
    if table not in TABLES:
        raise ValueError(f"no table {table!r}; there are {', '.join(TABLES)}")
    if not _IDENTITY.fullmatch(identity):
        raise ValueError(f"identity {identity!r} is no hex digest: use fingerprint.digest")
    if round_index < -1:
        raise ValueError(f"round {round_index}: rounds start at 0; CONTROL_ROUND is -1")
    return f"{table}/run={check_run(run)}/round={round_index:d}/part-{identity[:16]}.parquet"


def check_ref(ref: TableRef) -> None:
    """Refuses a ref that points anywhere but to a part of its table.

    Raises:
        StoreError: the ref was tampered with.
    """
    match = _PART.fullmatch(ref.path)
    if match is None or match["table"] != ref.table:
        raise StoreError(f"{ref.path!r} is no part of the table {ref.table!r}")


def round_of(path: str) -> int:
    """The round whose partition a part is in."""
    match = _PART.fullmatch(path)
    if match is None:
        raise StoreError(f"{path!r} is no part")
    return int(match["round"])


def lock_name(name: str) -> str:
    """A file name for any text: readable, and different for different texts."""
    readable = re.sub(r"[^A-Za-z0-9_-]", "_", name)[:60]
    return f"{readable}-{hashlib.sha256(name.encode()).hexdigest()[:12]}.lock"
