"""Turns names into safe paths, and paths back into names; nothing else builds a path."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace

from seal_core.errors import InputError, StoreError
from seal_core.types import TableRef
from storage.files.marker import RUN_RECORDS
from storage.tables.schema import TABLES

RESULT_RECORDS = "_results"
RUNNING_RECORDS = "_running"
MANIFESTS = "_manifests"
DAMAGED = "_damaged"
"""Where damaged files are moved to, so that no query finds them."""

_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_IDENTITY = re.compile(r"[0-9a-f]{16,64}")
_PARTITION = rf"(?P<table>{'|'.join(TABLES)})/run=(?P<run>{_RUN.pattern})/round=(?P<round>-1|\d+)/"
_PART = re.compile(_PARTITION + r"part-[0-9a-f]{16}\.parquet")
# Named like parts, so that whoever lists parts sees compacted files too.
_COMPACT = re.compile(_PARTITION + r"part-compact-(?P<name>[0-9a-f]{16})\.parquet")


@dataclass(frozen=True, order=True)
class Partition:
    """The folder of a table's rows of one round of a run."""

    table: str
    run: str
    round_index: int

    @property
    def folder(self) -> str:
        """Where its parts are."""
        return f"{self.table}/run={self.run}/round={self.round_index:d}"

    def compact_path(self, sha256: str) -> str:
        """Path of a compacted file, which is named by its content."""
        return f"{self.folder}/part-compact-{sha256[:16]}.parquet"


def check_run(run: str) -> str:
    """A run's name, if it is one.

    Raises:
        InputError: it could not stand in a path.
    """
    if not is_run(run):
        raise InputError(
            f"run name {run!r}: use 1 to 100 letters, digits, '.', '_' or '-', "
            "starting with a letter or digit"
        )
    return run


def is_run(name: str) -> bool:
    """Whether a run may have this name."""
    return _RUN.fullmatch(name) is not None


def part_path(table: str, run: str, round_index: int, slot: str) -> str:
    """Path of the part in a slot, e.g. a shard of a stage; see `Store.write_part`.

    Raises:
        ValueError: no such table or round.
    """
    return content_path(table, run, round_index, hashlib.sha256(slot.encode()).hexdigest())


def content_path(table: str, run: str, round_index: int, sha256: str) -> str:
    """Path of a part that is named by the digest of its bytes, so that damage shows.

    Raises:
        ValueError: no such table or round.
    """
    if table not in TABLES:
        raise ValueError(f"no table {table!r}; there are {', '.join(TABLES)}")
    if round_index < -1:
        raise ValueError(f"round {round_index}: rounds start at 0; CONTROL_ROUND is -1")
    return f"{Partition(table, check_run(run), round_index).folder}/part-{sha256[:16]}.parquet"


def is_content_path(path: str, sha256: str) -> bool:
    """Whether a part that is named by its content has the content of its name."""
    return path.endswith(f"/part-{sha256[:16]}.parquet")


def run_record(run: str) -> str:
    """Path of the record that a run's name stands for."""
    return f"{RUN_RECORDS}/{check_run(run)}.json"


def result_record(key: str) -> str:
    """Path of the record of a shard's result.

    Raises:
        ValueError: the key is no hex digest.
    """
    return f"{RESULT_RECORDS}/{_check_hex(key)}.json"


def running_record(run: str, name: str) -> str:
    """Path of the note of an execution, which stays until its stage has ended."""
    return f"{RUNNING_RECORDS}/{check_run(run)}/{_check_hex(name)[:16]}.json"


def _check_hex(key: str) -> str:
    if not _IDENTITY.fullmatch(key):
        raise ValueError(f"{key!r} is no hex digest: use fingerprint.digest")
    return key


def manifest_record(run: str) -> str:
    """Path of a run's manifest."""
    return f"{MANIFESTS}/{check_run(run)}.json"


def check_ref(ref: TableRef) -> None:
    """Refuses a ref that points anywhere but to a part of its table.

    Raises:
        StoreError: the ref was tampered with.
    """
    match = _PART.fullmatch(ref.path)
    if match is None or match["table"] != ref.table:
        raise StoreError(f"{ref.path!r} is no part of the table {ref.table!r}")


def partition_of(path: str) -> Partition:
    """The partition that a part, or a compacted file, is in.

    Raises:
        StoreError: the path is of neither.
    """
    match = _PART.fullmatch(path) or _COMPACT.fullmatch(path)
    if match is None:
        raise StoreError(f"{path!r} is no part")
    return Partition(match["table"], match["run"], int(match["round"]))


def same_file(path: str, run: str) -> str:
    """Where another run has the file of the same table, round and key."""
    folder = replace(partition_of(path), run=check_run(run)).folder
    return f"{folder}/{path.rpartition('/')[2]}"


def is_compact(path: str) -> bool:
    """Whether a path is that of a compacted file, which holds the rows of many parts."""
    return _COMPACT.fullmatch(path) is not None


def run_of(path: str) -> str:
    """The run in whose partition a file of a table is, whatever its name."""
    return path.split("/")[1].removeprefix("run=")
