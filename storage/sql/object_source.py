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
from fsspec.spec import AbstractBufferedFile

from storage.files.base import Entry, Objects
from storage.tables.schema import TABLES

_SCHEME = "store://"
_SMALL_BYTES = 8 << 20
_CACHE_BYTES = 256 << 20


class ObjectSource(AbstractFileSystem):
    """Parts in object storage; see `storage.sql.sources`.

    DuckDB opens each part several times per query, one after the other. So small parts are fetched
    together before a query, and kept while their version is the same.
    """

    protocol = "store"
    cachable = False

    def __init__(self, files: Objects) -> None:
        super().__init__()
        self.files = files
        self._known: dict[str, Entry] = {}
        self._kept: OrderedDict[tuple[str, str], bytes] = OrderedDict()

    def attach(self, connection: duckdb.DuckDBPyConnection) -> list[str]:
        """Makes the parts readable; the folders that SQL may read."""
        connection.register_filesystem(self)
        # What is kept here goes by version; DuckDB's cache goes by time, in whole seconds.
        connection.execute("SET enable_external_file_cache = false")
        return [f"{_SCHEME}{table}/" for table in TABLES]

    def refresh(self) -> None:
        """Called before each query: listings are made anew."""
        self._known.clear()

    def name(self, path: str) -> str:
        """What DuckDB calls a path of the store."""
        return _SCHEME + path

    def restored(self, text: str) -> str:
        """A message of DuckDB's, with files named as the user knows them."""
        return text

    def listing(self, pattern: str) -> list[str]:
        """Paths of the parts that match, as of now."""
        found = self.files.entries(pattern)
        self._known.update((entry.path, entry) for entry in found)
        return [entry.path for entry in found]

    def fetch(self, paths: Sequence[str]) -> None:
        """Has listed parts at hand.

        Raises:
            FileNotFoundError: one was compacted since it was listed.
        """
        missing, room = [], _CACHE_BYTES
        for entry in (self._known[path] for path in paths):
            key = (entry.path, entry.version)
            if key in self._kept:
                self._kept.move_to_end(key)
            elif entry.size <= min(_SMALL_BYTES, room):
                room -= entry.size
                missing.append(entry)
        found = self.files.read_many([entry.path for entry in missing])
        for entry, data in zip(missing, found, strict=True):
            self._kept[entry.path, entry.version] = data
        while sum(map(len, self._kept.values())) > _CACHE_BYTES:
            self._kept.popitem(last=False)

    def glob(self, path: str, maxdepth: int | None = None, **_: Any) -> list[str]:
        # Views name files, which were listed just before.
        inside = self._inside(path)
        return [inside] if inside in self._known else self.listing(inside)

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        entry = self._entry(path)
        return {"name": entry.path, "size": entry.size, "type": "file"}

    def exists(self, path: str, **_: Any) -> bool:
        return bool(self.glob(path))

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
        if data is None:
            return _Ranges(self, entry.path, size=entry.size, cache_type="none")
        return io.BytesIO(data)

    def _entry(self, path: str) -> Entry:
        inside = self._inside(path)
        if inside not in self._known and inside not in self.listing(inside):
            raise FileNotFoundError(f"{inside}: there is no such part")
        return self._known[inside]

    def _inside(self, path: str) -> str:
        inside = path.removeprefix(_SCHEME)
        levels = inside.split("/")
        if levels[0] not in TABLES or {"", ".", ".."} & set(levels):
            raise PermissionError(f"{inside!r} is outside of the store's tables")
        return inside


class _Ranges(AbstractBufferedFile):
    """A large part, of which DuckDB's reads are fetched alone."""

    def _fetch_range(self, start: int, end: int) -> bytes:
        return self.fs.files.read_range(self.path, start, min(end, self.size))
