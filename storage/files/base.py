"""File operations under a store's root: what a folder and object storage have to offer."""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeGuard

from seal_core.errors import StoreError


@dataclass(frozen=True)
class Entry:
    """A file as a listing shows it.

    Attributes:
        version: Changes with the content; of an object, its ETag.
        modified: When it was written, by the server's clock.
    """

    path: str
    size: int
    version: str
    modified: datetime


@dataclass(frozen=True)
class Stamp:
    """State of one object.

    Attributes:
        age: Seconds since it was written, both times by the server's clock.
        metadata: What `upload` put beside it.
    """

    version: str
    age: float
    metadata: Mapping[str, str]


class Files(ABC):
    """Reads and atomic writes, by POSIX paths relative to the root."""

    @property
    @abstractmethod
    def root(self) -> Path | str:
        """A folder, or the URL of a bucket and prefix."""

    @abstractmethod
    def exists(self, path: str) -> bool:
        """Whether a file is there, or a folder that holds one."""

    @abstractmethod
    def read(self, path: str) -> bytes:
        """All bytes of a file.

        Raises:
            FileNotFoundError: there is none.
        """

    def read_many(self, paths: Sequence[str]) -> list[bytes]:
        """All bytes of many files; raises as `read`."""
        return [self.read(path) for path in paths]

    @abstractmethod
    def write(self, path: str, data: bytes) -> None:
        """Replaces a file whole: after a kill there is the old one or the new one."""

    @abstractmethod
    def create(self, path: str, data: bytes) -> bool:
        """Writes a file that is not there yet; False, and nothing written, if it is.

        Of several processes that create one path, one gets True. When the answer of object storage
        is lost and the request repeated, this gives False although the object is ours; who needs to
        know puts a token of its own into `data`.
        """

    @abstractmethod
    def swap(self, path: str, data: bytes, version: str) -> bool:
        """Replaces a file whole if it is the one of this version; False if it is not.

        In a folder the caller keeps other processes from doing it at the same time.

        Args:
            version: Of `versions`; empty if there is to be no file so far.
        """

    @abstractmethod
    def link(self, source: str, target: str) -> None:
        """Makes `target` the same file as `source`, or a copy where links are not possible.

        Raises:
            FileNotFoundError: there is no `source`.
        """

    @abstractmethod
    def glob(self, pattern: str) -> list[str]:
        """Paths of files that match, sorted. `*` stays within one level, and matches dots."""

    @abstractmethod
    def versions(self, pattern: str) -> dict[str, str]:
        """Paths of files that match, each with what changes when the file does."""

    @abstractmethod
    def delete(self, path: str) -> None:
        """Removes a file; nothing to do if it is not there."""

    def delete_many(self, paths: Sequence[str]) -> None:
        """As `delete`, of many."""
        for path in paths:
            self.delete(path)


class Objects(Files):
    """Files in object storage; see `storage.files.objects`."""

    @abstractmethod
    def entries(self, pattern: str) -> list[Entry]:
        """Objects that match, by path."""

    @abstractmethod
    def first(self) -> str | None:
        """Path of any object below the root; None if there is none."""

    @abstractmethod
    def stamp(self, path: str) -> Stamp | None:
        """State of an object; None if it is not there."""

    @abstractmethod
    def read_range(self, path: str, start: int, end: int) -> bytes:
        """Bytes `start` to `end` (exclusive) of an object."""

    @abstractmethod
    def upload(self, path: str, source: Path, metadata: Mapping[str, str]) -> None:
        """Writes a file of any size; the metadata stays with the object, in copies too."""

    @abstractmethod
    def download(self, path: str, target: Path) -> None:
        """Copies an object into a file."""


def in_objects(files: Files) -> TypeGuard[Objects]:
    """Whether the files are in object storage."""
    return isinstance(files, Objects)


def check_inside(path: str) -> str:
    """A path relative to the root, if it is one.

    Raises:
        StoreError: it would leave the store.
    """
    if path.startswith("/") or ".." in path.split("/") or "\0" in path:
        raise StoreError(f"{path!r} is no path inside a store")
    return path


def temporary_name(name: str) -> str:
    """A hidden name that no other writer uses."""
    return f".{name}.{uuid.uuid4().hex}.tmp"
