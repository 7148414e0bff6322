"""File operations under a store's root: the contract, and a folder of this machine."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeGuard

from seal_core.errors import StoreError

if TYPE_CHECKING:
    from storage.object_files import ObjectFiles

_BLOCK = 1 << 20


class Files(Protocol):
    """Reads and atomic writes, by POSIX paths relative to the root.

    Implementations: `LocalFiles` below, and `storage.object_files.ObjectFiles`.

    Attributes:
        root: A folder, or the URL of a bucket and prefix.
        is_local: Whether the root is a folder of this machine.
    """

    @property
    def root(self) -> Path | str: ...

    @property
    def is_local(self) -> bool: ...

    def exists(self, path: str) -> bool:
        """Whether a file is there, or a folder that holds one."""
        ...

    def read(self, path: str) -> bytes:
        """All bytes of a file.

        Raises:
            FileNotFoundError: there is none.
        """
        ...

    def write(self, path: str, data: bytes) -> None:
        """Replaces a file whole: after a kill there is the old one or the new one."""
        ...

    def create(self, path: str, data: bytes) -> bool:
        """Writes a file that is not there yet; False, and nothing written, if it is.

        Of several processes that create one path, one gets True.
        """
        ...

    def swap(self, path: str, data: bytes, version: str) -> bool:
        """Replaces a file whole if it is the one of this version; False if it is not.

        Args:
            version: Of `versions`; empty if there is to be no file so far.
        """
        ...

    def link(self, source: str, target: str) -> None:
        """Makes `target` the same file as `source`, or a copy where links are not possible.

        Raises:
            FileNotFoundError: there is no `source`.
        """
        ...

    def glob(self, pattern: str) -> list[str]:
        """Paths of files that match, sorted. `*` stays within one level, and matches dots."""
        ...

    def versions(self, pattern: str) -> dict[str, str]:
        """Paths of files that match, each with what changes when the file does."""
        ...

    def delete(self, path: str) -> None:
        """Removes a file; nothing to do if it is not there."""
        ...

    def delete_many(self, paths: Sequence[str]) -> None:
        """As `delete`, of many."""
        ...


class LocalFiles:
    """A folder of this machine."""

    is_local = True

    def __init__(self, root: Path) -> None:
        self.root = root

    def local(self, path: str) -> Path:
        """The file's place on this machine."""
        return self.root / check_inside(path)

    def exists(self, path: str) -> bool:
        """See `Files`."""
        return self.local(path).exists()

    def read(self, path: str) -> bytes:
        """See `Files`."""
        return self.local(path).read_bytes()

    def write(self, path: str, data: bytes) -> None:
        """See `Files`."""
        with self._staged(path) as temporary:
            _write_synced(temporary, data)
            os.replace(temporary, self.local(path))

    def create(self, path: str, data: bytes) -> bool:
        """See `Files`."""
        with self._staged(path) as temporary:
            _write_synced(temporary, data)
            try:
                os.link(temporary, self.local(path))
            except FileExistsError:
                return False
            except OSError:
                return self._create_without_links(path, data)
        return True

    def swap(self, path: str, data: bytes, version: str) -> bool:
        """See `Files`; the caller keeps other processes from doing it at the same time."""
        if self.versions(path).get(path, "") != version:
            return False
        self.write(path, data)
        return True

    def link(self, source: str, target: str) -> None:
        """See `Files`."""
        try:
            with self._staged(target) as temporary:
                os.link(self.local(source), temporary)
                os.replace(temporary, self.local(target))
        except OSError:
            self.write(target, self.read(source))

    def glob(self, pattern: str) -> list[str]:
        """See `Files`."""
        found = (path for path in self.root.glob(pattern) if path.is_file())
        return sorted(path.relative_to(self.root).as_posix() for path in found)

    def versions(self, pattern: str) -> dict[str, str]:
        """See `Files`."""
        found = {}
        for path in self.glob(pattern):
            with suppress(FileNotFoundError):
                state = self.local(path).stat()
                found[path] = f"{state.st_ino} {state.st_size} {state.st_mtime_ns}"
        return found

    def delete(self, path: str) -> None:
        """See `Files`."""
        self.local(path).unlink(missing_ok=True)

    def delete_many(self, paths: Sequence[str]) -> None:
        """See `Files`."""
        for path in paths:
            self.delete(path)

    def _create_without_links(self, path: str, data: bytes) -> bool:
        try:
            _write_synced(self.local(path), data)
        except FileExistsError:
            return False
        return True

    @contextmanager
    def _staged(self, path: str) -> Iterator[Path]:
        """A temporary name beside `path`, gone afterwards, and the folder synced."""
        target = self.local(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        # Not `.parquet`: DuckDB's glob matches dotfiles too.
        temporary = target.parent / temporary_name(target.name)
        try:
            yield temporary
            fsync_folder(target.parent)
        finally:
            with suppress(FileNotFoundError):
                temporary.unlink()


def in_objects(files: Files) -> TypeGuard[ObjectFiles]:
    """Whether the files are in object storage."""
    return not files.is_local


def in_folder(files: Files) -> TypeGuard[LocalFiles]:
    """Whether the files are in a folder of this machine."""
    return files.is_local


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


def fsync_folder(folder: Path) -> None:
    """Makes a rename in this folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def file_sha256(path: Path) -> str:
    """Digest of a file of any size."""
    state = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            state.update(block)
    return state.hexdigest()


def _write_synced(path: Path, data: bytes) -> None:
    with open(path, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
