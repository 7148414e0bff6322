"""Compacted files: the rows of many Parquet files of a partition as one file."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache

import pyarrow as pa
import pyarrow.parquet as pq

from seal_core.errors import StoreError
from storage.files.base import Files
from storage.tables.encoding import COMPRESSION, ROW_GROUP, Member, sha256_of
from storage.tables.manifest import MEMBERS, Compacted
from storage.tables.paths import Partition
from storage.tables.schema import TABLES

Piece = tuple[Member, pa.Table]
"""A part on its way into a compacted file, or read, and its rows."""
_FILES = 2
_ROW_GROUPS = 8


def build(partition: Partition, pieces: Iterable[Piece], version: int) -> tuple[Compacted, bytes]:
    """The compacted file of these pieces, in their order.

    Args:
        version: Of the manifest that is to list it.
    """
    members: list[Member] = []
    sink = io.BytesIO()
    schema = TABLES[partition.table].schema
    with pq.ParquetWriter(sink, schema, compression=COMPRESSION) as writer:
        waiting: list[pa.Table] = []
        for member, rows in pieces:
            members.append(member)
            waiting = _write_groups(writer, [*waiting, rows], ROW_GROUP)
        _write_groups(writer, waiting, 1)
        # So no two sets of files are one compacted file, even if both have no rows.
        said = json.dumps([version, [asdict(member) for member in members]])
        writer.add_key_value_metadata({"seal.table": partition.table, MEMBERS: said})
    data = sink.getvalue()
    sha256 = sha256_of(data)
    return Compacted(partition.compact_path(sha256), sha256, tuple(members)), data


def _write_groups(
    writer: pq.ParquetWriter, waiting: list[pa.Table], at_least: int
) -> list[pa.Table]:
    """Writes whole row groups, or what there is; returns what is left."""
    n = sum(table.num_rows for table in waiting)
    if n < at_least:
        return waiting
    rows = pa.concat_tables(waiting).combine_chunks()
    end = n if at_least == 1 else n - n % ROW_GROUP
    writer.write_table(rows.slice(0, end), row_group_size=ROW_GROUP)
    return [rows.slice(end)] if end < n else []


class CompactedReader:
    """Reads members out of the compacted files of one store.

    A file is hashed once, and once more when it changes. The last few are kept open, since members
    are asked for one after the other.
    """

    def __init__(self, files: Files) -> None:
        self._files = files
        self._lock = threading.Lock()
        self._known: dict[str, tuple[str, str | None]] = {}
        self._opened = lru_cache(_FILES)(self._open)

    def problem(self, file: Compacted) -> str | None:
        """None if a file is whole, else what is wrong."""
        with self._lock:
            return self._check(file)[1]

    def rows(self, file: Compacted, path: str) -> pa.Table:
        """The rows of a member.

        Raises:
            StoreError: the file is missing or damaged.
        """
        first, member = file.places[path]
        with self._lock:
            version, problem = self._check(file)
            try:
                if problem is not None:
                    raise StoreError(problem)
                return self._opened(file.path, version, file.sha256).rows(first, member.rows)
            except StoreError as error:
                raise StoreError(f"{error}: resume the run") from error

    def pieces(self, file: Compacted) -> Iterator[Piece]:
        """All members with their rows; raises as `rows`."""
        return ((member, self.rows(file, member.path)) for member in file.members)

    def _check(self, file: Compacted) -> tuple[str, str | None]:
        """Version and problem; reads the file if it has not been read in this version."""
        version = self._files.versions(file.path).get(file.path)
        if version is None:
            return "", f"{file.path}: the compacted file is missing"
        known = self._known.get(file.path)
        if known is None or known[0] != version:
            problem = None
            try:
                self._opened(file.path, version, file.sha256)
            except StoreError as error:
                problem = str(error)
            known = self._known[file.path] = version, problem
        return known

    def _open(self, path: str, version: str, sha256: str) -> _Opened:
        """The file, read and hashed; `version` is what the cache of open files goes by."""
        try:
            data = self._files.read(path)
        except FileNotFoundError:
            raise StoreError(f"{path}: the compacted file is missing") from None
        if sha256_of(data) != sha256:
            raise StoreError(f"{path}: the compacted file's digest does not match")
        return _Opened(data)


@dataclass(frozen=True)
class Packed:
    """A part whose rows are in a compacted file; it has what `Part` has."""

    member: Member
    file: Compacted
    reader: CompactedReader

    @property
    def sha256(self) -> str:
        """Digest that refs to it have."""
        return self.member.sha256

    def rows(self) -> pa.Table:
        """Its rows."""
        return self.reader.rows(self.file, self.member.path)


class _Opened:
    """A compacted file in memory, and the row groups of it that were read last."""

    def __init__(self, data: bytes) -> None:
        self._file = pq.ParquetFile(pa.BufferReader(data))
        self._group = lru_cache(_ROW_GROUPS)(self._read_group)

    def rows(self, first: int, n: int) -> pa.Table:
        """So many rows, from the first one on."""
        footer = self._file.metadata
        slices, start = [], 0
        for i in range(footer.num_row_groups):
            size = footer.row_group(i).num_rows
            low, high = max(first, start), min(first + n, start + size)
            if low < high:
                slices.append(self._group(i).slice(low - start, high - low))
            start += size
        return pa.concat_tables(slices) if slices else self._file.schema_arrow.empty_table()

    def _read_group(self, i: int) -> pa.Table:
        return self._file.read_row_group(i, use_threads=False)
