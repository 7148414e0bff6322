"""A store in object storage as a file system that DuckDB reads: the parts, read-only.

DuckDB's own S3 reader is an extension that has to be downloaded, so it reads through fsspec. It
sees paths relative to the store, `store://scores/run=…`, and neither bucket, prefix nor endpoint.
"""

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import duckdb
from fsspec import AbstractFileSystem

from storage.files.base import Entry, Objects
from storage.tables.schema import TABLES

_SCHEME = "store://"
_SMALL_BYTES = 8 << 20
_CACHE_BYTES = 256 << 20


class ObjectSource:
    """Parts in object storage, for one connection; see `storage.sql.sources`."""

    def __init__(self, files: Objects) -> None:
        self._system = _Parts(files)

    def attach(self, connection: duckdb.DuckDBPyConnection) -> list[str]:
        """Makes the parts readable; the folders that SQL may read."""
        connection.register_filesystem(self._system)
        # The cache below goes by version; DuckDB's goes by time, in whole seconds.
        connection.execute("SET enable_external_file_cache = false")
        return [f"{_SCHEME}{table}/" for table in TABLES]

    def refresh(self) -> None:
        """Called before each query: listings are made anew."""
        self._system.listings.clear()
        self._system.known.clear()

    def name(self, path: str) -> str:
        """What DuckDB calls a path of the store."""
        return _SCHEME + path

    def restored(self, text: str) -> str:
        """A message of DuckDB's, with files named as the user knows them."""
        return text

    def listing(self, pattern: str) -> list[str]:
        """Paths of the parts that match, as of now."""
        self._system.listings.pop(pattern, None)
        return [entry.path for entry in self._system.entries(pattern)]

    def fetch(self, paths: Sequence[str]) -> None:
        """Has listed parts at hand."""
        self._system.fetch([self._system.known[path] for path in paths])


class _Parts(AbstractFileSystem):
    """What DuckDB calls; everything else of fsspec's interface is refused.

    Small parts are fetched together before a query, and kept while their version is the same:
    DuckDB opens each part several times per query, one after the other.
    """

    protocol = "store"
    cachable = False

    def __init__(self, files: Objects) -> None:
        super().__init__()
        self.listings: dict[str, list[Entry]] = {}
        self._files = files
        self.known: dict[str, Entry] = {}
        self._kept: OrderedDict[tuple[str, str], bytes] = OrderedDict()

    def entries(self, pattern: str) -> list[Entry]:
        """Objects that match, listed once per query."""
        if pattern not in self.listings:
            found = self._files.entries(pattern)
            self.known.update((entry.path, entry) for entry in found)
            self.listings[pattern] = found
        return self.listings[pattern]

    def fetch(self, entries: Sequence[Entry]) -> None:
        """Fetches small parts that are not at hand.

        Raises:
            FileNotFoundError: one was compacted since it was listed.
        """
        missing, room = [], _CACHE_BYTES
        for entry in entries:
            key = (entry.path, entry.version)
            if key in self._kept:
                self._kept.move_to_end(key)
            elif entry.size <= min(_SMALL_BYTES, room):
                room -= entry.size
                missing.append(entry)
        found = self._files.read_many([entry.path for entry in missing])
        for entry, data in zip(missing, found, strict=True):
            self._kept[entry.path, entry.version] = data
        while sum(map(len, self._kept.values())) > _CACHE_BYTES:
            self._kept.popitem(last=False)

    def glob(self, path: str, maxdepth: int | None = None, **_: Any) -> list[str]:
        # Views name files, which were listed just before.
        inside = self._inside(path)
        return [inside] if inside in self.known else [e.path for e in self.entries(inside)]

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        entry = self._entry(path)
        return {"name": entry.path, "size": entry.size, "type": "file"}

    def exists(self, path: str, **_: Any) -> bool:
        return bool(self.entries(self._inside(path)))

    def modified(self, path: str) -> datetime:
        return self._entry(path).modified

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        autocommit: bool = True,
        cache_options: dict[str, Any] | None = None,
        **_: Any,
    ) -> Any:
        if mode != "rb":
            raise PermissionError("the store is read-only in SQL")
        entry = self._entry(path)
        data = self._kept.get((entry.path, entry.version))
        return _Ranges(self._files, entry) if data is None else io.BytesIO(data)

    def _entry(self, path: str) -> Entry:
        inside = self._inside(path)
        if inside not in self.known:
            self.entries(inside)
        if inside not in self.known:
            raise FileNotFoundError(f"{inside}: there is no such part")
        return self.known[inside]

    def _inside(self, path: str) -> str:
        inside = path.removeprefix(_SCHEME)
        levels = inside.split("/")
        if levels[0] not in TABLES or {"", ".", ".."} & set(levels):
            raise PermissionError(f"{inside!r} is outside of the store's tables")
        return inside


class _Ranges(io.RawIOBase):
    """A large part, of which DuckDB's reads are fetched alone."""

    def __init__(self, files: Objects, entry: Entry) -> None:
        self._files = files
        self._entry = entry
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._entry.size}
        self._position = start[whence] + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        end = min(self._position + len(buffer), self._entry.size)
        if end <= self._position:
            return 0
        data = self._files.read_range(self._entry.path, self._position, end)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)
