"""Reads parts out of compact files, as if they were still there."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from seal_core.errors import StoreError
from seal_core.types import TableRef
from storage.compacts import Compact, Member, read_compact
from storage.files import Files, in_objects
from storage.naming import COMPACT_RECORDS, check_run, partition_of
from storage.parts import sha256_of

T = TypeVar("T")
_FILES = 2
_ROW_GROUPS = 16


class CompactReader:
    """Parts in the compact files of one store.

    A compact file is hashed once, and once more when it changes. The last few files and row groups
    are kept, since parts are asked for one after the other.
    """

    def __init__(self, files: Files) -> None:
        self._files = files
        self._lock = threading.Lock()
        self._records: dict[tuple[str, str], Compact] = {}
        self._problems: dict[tuple[str, str], str | None] = {}
        self._open: OrderedDict[tuple[str, str], pq.ParquetFile] = OrderedDict()
        self._groups: OrderedDict[tuple[str, str, int], pa.Table] = OrderedDict()

    def find(self, path: str) -> tuple[Compact, Member] | None:
        """The compact file that holds a part, whole or not; None if none does."""
        for compact in self._compacts(f"{partition_of(path).records}/*.json"):
            if member := compact.by_path.get(path):
                return compact, member
        return None

    def members(self, table: str, run: str) -> list[Member]:
        """All parts of a run that are in compact files."""
        found = self._compacts(f"{COMPACT_RECORDS}/{check_run(run)}/{table}/*/*.json")
        return [member for compact in found for member in compact.members]

    def verify(self, ref: TableRef) -> str | None:
        """None if a part is in a compact file and whole, else what is wrong."""
        found = self.find(ref.path)
        if found is None:
            return f"{ref.path}: the part is missing"
        compact, member = found
        if member.sha256 != ref.sha256:
            return f"{ref.path}: the part's digest does not match"
        if member.rows != ref.rows:
            return f"{ref.path}: the part has {member.rows} rows, not {ref.rows}"
        if problem := self.problem(compact):
            return f"{problem}; {ref.path} is in it"
        return None

    def problem(self, compact: Compact) -> str | None:
        """None if a compact file is whole, else what is wrong."""
        with self._lock:
            return self._check(compact)[1]

    def rows(self, path: str) -> tuple[pa.Table, Member]:
        """The rows of a part, and what is known of it.

        Raises:
            StoreError: it is in no compact file, or that is damaged.
        """
        found = self.find(path)
        if found is None:
            raise StoreError(f"{path} is missing: resume the run")
        compact, member = found
        with self._lock:
            return self._slice(compact, member.first_row, member.rows), member

    def all_rows(self, compact: Compact) -> Iterator[pa.Table]:
        """The rows of each member.

        Raises:
            StoreError: the file is missing or damaged.
        """
        for member in compact.members:
            with self._lock:
                rows = self._slice(compact, member.first_row, member.rows)
            yield rows

    def _compacts(self, pattern: str) -> Iterator[Compact]:
        """Compact files that are there, from their records; damaged records are left out."""
        for path, version in _versions(self._files, pattern).items():
            try:
                with self._lock:
                    compact = _kept(
                        self._records,
                        (path, version),
                        lambda path=path: read_compact(self._files, path),
                    )
            except (StoreError, FileNotFoundError):
                continue
            if self._files.exists(compact.path):
                yield compact

    def _check(self, compact: Compact) -> tuple[str, str | None]:
        """Version and problem; reads the file if it has not been read in this version."""
        version = _versions(self._files, compact.path).get(compact.path)
        if version is None:
            return "", f"{compact.path}: the compact file is missing"
        key = (compact.path, version)
        return version, _kept(self._problems, key, lambda: self._read(compact, key))

    def _read(self, compact: Compact, key: tuple[str, str]) -> str | None:
        try:
            data = self._files.read(compact.path)
        except FileNotFoundError:
            return f"{compact.path}: the compact file is missing"
        if sha256_of(data) != compact.sha256:
            return f"{compact.path}: the compact file's digest does not match"
        self._open[key] = pq.ParquetFile(pa.BufferReader(data))
        while len(self._open) > _FILES:
            self._open.popitem(last=False)
        return None

    def _slice(self, compact: Compact, first: int, n: int) -> pa.Table:
        version, problem = self._check(compact)
        key = (compact.path, version)
        if problem is None and key not in self._open:
            problem = self._read(compact, key)
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
        if not slices:
            return self._open[key].schema_arrow.empty_table()
        return pa.concat_tables(slices)

    def _group(self, key: tuple[str, str], i: int) -> pa.Table:
        if (*key, i) not in self._groups:
            self._groups[*key, i] = self._open[key].read_row_group(i, use_threads=False)
            while len(self._groups) > _ROW_GROUPS:
                self._groups.popitem(last=False)
        self._groups.move_to_end((*key, i))
        return self._groups[*key, i]


def _kept(known: dict[tuple[str, str], T], key: tuple[str, str], make: Callable[[], T]) -> T:
    """What was made for this version of a path; older versions are forgotten."""
    if key not in known:
        value = make()
        for old in [other for other in known if other[0] == key[0]]:
            del known[old]
        known[key] = value
    return known[key]


def _versions(files: Files, pattern: str) -> dict[str, str]:
    """Paths that match, each with what changes when the file does."""
    if in_objects(files):
        return {entry.path: entry.version for entry in files.entries(pattern)}
    found = {}
    for path in files.glob(pattern):
        try:
            state = (Path(files.root) / path).stat()
        except FileNotFoundError:
            continue
        found[path] = f"{state.st_ino} {state.st_size} {state.st_mtime_ns}"
    return found
