"""Compacted files: the rows of many Parquet files of a partition as one file."""

from __future__ import annotations

import io
import json
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from seal_core.errors import StoreError
from storage.files.base import Files
from storage.tables.encoding import COMPRESSION, ROW_GROUP, sha256_of
from storage.tables.manifest import MEMBERS, Compacted, Member
from storage.tables.paths import Partition
from storage.tables.schema import TABLES

_FILES = 2
_ROW_GROUPS = 16


@dataclass(frozen=True)
class Piece:
    """Rows on their way into a compacted file, under the path and digest of their own file."""

    path: str
    sha256: str
    metadata: dict[str, str]
    rows: pa.Table


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
        for piece in pieces:
            members.append(Member(piece.path, piece.sha256, piece.rows.num_rows, piece.metadata))
            waiting = _write_groups(writer, [*waiting, piece.rows], ROW_GROUP)
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

    A file is hashed once, and once more when it changes. The last few files and row groups are
    kept, since members are asked for one after the other.
    """

    def __init__(self, files: Files) -> None:
        self._files = files
        self._lock = threading.Lock()
        self._problems: dict[str, tuple[str, str | None]] = {}
        self._open: OrderedDict[tuple[str, str], pq.ParquetFile] = OrderedDict()
        self._groups: OrderedDict[tuple[str, str, int], pa.Table] = OrderedDict()

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
            return self._slice(file, first, member.rows)

    def pieces(self, file: Compacted) -> Iterator[Piece]:
        """All members with their rows; raises as `rows`."""
        for member in file.members:
            rows = self.rows(file, member.path)
            yield Piece(member.path, member.sha256, member.metadata, rows)

    def _check(self, file: Compacted) -> tuple[str, str | None]:
        """Version and problem; reads the file if it has not been read in this version."""
        version = self._files.versions(file.path).get(file.path)
        if version is None:
            return "", f"{file.path}: the compacted file is missing"
        known = self._problems.get(file.path)
        if known is None or known[0] != version:
            known = self._problems[file.path] = version, self._read(file, version)
        return known

    def _read(self, file: Compacted, version: str) -> str | None:
        try:
            data = self._files.read(file.path)
        except FileNotFoundError:
            return f"{file.path}: the compacted file is missing"
        if sha256_of(data) != file.sha256:
            return f"{file.path}: the compacted file's digest does not match"
        self._open[file.path, version] = pq.ParquetFile(pa.BufferReader(data))
        while len(self._open) > _FILES:
            self._open.popitem(last=False)
        return None

    def _slice(self, file: Compacted, first: int, n: int) -> pa.Table:
        version, problem = self._check(file)
        key = (file.path, version)
        if problem is None and key not in self._open:
            problem = self._read(file, version)
        if problem is not None:
            raise StoreError(f"{problem}: resume the run")
        self._open.move_to_end(key)
        footer = self._open[key].metadata
        slices, start = [], 0
        for i in range(footer.num_row_groups):
            size = footer.row_group(i).num_rows
            low, high = max(first, start), min(first + n, start + size)
            if low < high:
                slices.append(self._group(key, i).slice(low - start, high - low))
            start += size
        return pa.concat_tables(slices) if slices else self._open[key].schema_arrow.empty_table()

    def _group(self, key: tuple[str, str], i: int) -> pa.Table:
        if (*key, i) not in self._groups:
            self._groups[*key, i] = self._open[key].read_row_group(i, use_threads=False)
            while len(self._groups) > _ROW_GROUPS:
                self._groups.popitem(last=False)
        self._groups.move_to_end((*key, i))
        return self._groups[*key, i]
