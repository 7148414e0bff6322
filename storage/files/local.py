"""Files in a folder of this machine."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from storage.files.base import Files, check_inside, temporary_name

_BLOCK = 1 << 20


class LocalFiles(Files):
    """A folder of this machine."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @property
    def root(self) -> Path:
        return self._root

    def local(self, path: str) -> Path:
        """The file's place on this machine."""
        return self.root / check_inside(path)

    def exists(self, path: str) -> bool:
        return self.local(path).exists()

    def read(self, path: str) -> bytes:
        return self.local(path).read_bytes()

    def write(self, path: str, data: bytes) -> None:
        with self._staged(path) as temporary:
            _write_synced(temporary, data)
            os.replace(temporary, self.local(path))

    def create(self, path: str, data: bytes) -> bool:
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
        if self.versions(path).get(path, "") != version:
            return False
        self.write(path, data)
        return True

    def link(self, source: str, target: str) -> None:
        try:
            with self._staged(target) as temporary:
                os.link(self.local(source), temporary)
                os.replace(temporary, self.local(target))
        except OSError:
            self.write(target, self.read(source))

    def glob(self, pattern: str) -> list[str]:
        found = (path for path in self.root.glob(pattern) if path.is_file())
        return sorted(path.relative_to(self.root).as_posix() for path in found)

    def versions(self, pattern: str) -> dict[str, str]:
        found = {}
        for path in self.glob(pattern):
            with suppress(FileNotFoundError):
                state = self.local(path).stat()
                found[path] = f"{state.st_ino} {state.st_size} {state.st_mtime_ns}"
        return found

    def delete(self, path: str) -> None:
        self.local(path).unlink(missing_ok=True)

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
