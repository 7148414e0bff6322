"""Where a catalog's parts are, as DuckDB sees them, and what keeps it from seeing more."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import duckdb

from seal_core.errors import InputError
from storage.files import Files, in_objects
from storage.object_source import ObjectSource
from storage.tables import TABLES


class Source(Protocol):
    """The parts of one store."""

    def attach(self, connection: duckdb.DuckDBPyConnection) -> list[str]:
        """Makes the parts readable; the folders that SQL may read."""
        ...

    def refresh(self) -> None:
        """Called before each query."""
        ...

    def pattern(self, path: str) -> str:
        """What a path of the store, which may have `*`, is called in SQL."""
        ...

    def name(self, path: str) -> str:
        """What DuckDB calls a file whose path has no `*`."""
        ...

    def has_parts(self, pattern: str) -> bool:
        """Whether any part matches."""
        ...


class FolderSource:
    """Parts in a folder, which DuckDB reads by itself."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def attach(self, connection: duckdb.DuckDBPyConnection) -> list[str]:
        """See `Source`."""
        folders = [f"{self._root}/{table}/" for table in TABLES]
        # A folder is compared with the text of the pattern, so its escaped form is allowed too.
        return sorted({*folders, *map(_escape_glob, folders)})

    def refresh(self) -> None:
        """Refuses links, which DuckDB would follow out of the store.

        Raises:
            InputError: naming the link.
        """
        for table in TABLES:
            for link in _links(self._root / table):
                raise InputError(
                    f"store {self._root}: {link} is a link, and may lead out of the store: "
                    "put the file or folder itself there"
                )

    def pattern(self, path: str) -> str:
        """See `Source`."""
        return f"{_escape_glob(str(self._root))}/{path}"

    def name(self, path: str) -> str:
        """See `Source`."""
        return f"{self._root}/{path}"

    def has_parts(self, pattern: str) -> bool:
        """See `Source`."""
        return next(self._root.glob(pattern), None) is not None


def open_source(files: Files) -> Source:
    """The source for a store's files."""
    return ObjectSource(files) if in_objects(files) else FolderSource(Path(files.root))


def _links(folder: Path) -> Iterator[str]:
    if folder.is_symlink():
        yield str(folder)
    pending = [str(folder)]
    while pending:
        try:
            entries = list(os.scandir(pending.pop()))
        except FileNotFoundError:
            continue
        yield from (entry.path for entry in entries if entry.is_symlink())
        pending += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]


def _escape_glob(path: str) -> str:
    return "".join(f"[{char}]" if char in "*?[" else char for char in path)
