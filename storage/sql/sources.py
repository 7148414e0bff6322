"""Where a catalog's parts are, as DuckDB sees them, and what keeps it from seeing more."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import duckdb

from seal_core.errors import InputError
from seal_core.places import check_plain
from storage.files.base import Files, in_objects
from storage.sql.object_source import ObjectSource
from storage.tables.schema import TABLES


class FolderSource:
    """Parts in a folder, which DuckDB reads by itself; its methods do what `ObjectSource`'s do.

    Args:
        alias: A path that does not exist yet, for a link to the folder: DuckDB is shown no other,
            since it takes `name=value` anywhere in a path for a column of the table, and `*`, `?`,
            `[` and backslashes for patterns.

    Raises:
        InputError: The alias has such characters too.
    """

    def __init__(self, files: Files, alias: Path) -> None:
        check_plain(alias)
        alias.symlink_to(files.root, target_is_directory=True)
        self._files, self._root, self._alias = files, Path(files.root), alias

    def attach(self, connection: duckdb.DuckDBPyConnection) -> list[str]:
        return [f"{self._alias}/{table}/" for table in TABLES]

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

    def name(self, path: str) -> str:
        return f"{self._alias}/{path}"

    def restored(self, text: str) -> str:
        return text.replace(f"{self._alias}/", f"{self._root}/")

    def listing(self, pattern: str) -> list[str]:
        return self._files.glob(pattern)

    def fetch(self, paths: Sequence[str]) -> None:
        """They are at hand."""


def open_source(files: Files, alias: Path) -> FolderSource | ObjectSource:
    """The source for a store's files; see `FolderSource` for the alias."""
    return ObjectSource(files) if in_objects(files) else FolderSource(files, alias)


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
