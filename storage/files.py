"""File operations under a store's root; the seam at which object storage would come in."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from seal_core.errors import InputError

_BLOCK = 1 << 20


class Files:
    """Reads and atomic writes, by paths relative to the root."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def local(self, path: str) -> Path:
        """The file's place on this machine."""
        return self.root / path

    def exists(self, path: str) -> bool:
        """Whether a file or folder is there."""
        return self.local(path).exists()

    def read(self, path: str) -> bytes:
        """All bytes of a file."""
        return self.local(path).read_bytes()

    def write(self, path: str, data: bytes) -> None:
        """Replaces a file whole: after a kill there is the old one or the new one."""
        with self._staged(path) as temporary, open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def create(self, path: str, data: bytes) -> bool:
        """Writes a file unless there is one; of several writers at once, one gets True."""
        target = self.local(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.parent / temporary_name(target.name)
        try:
            with open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.link(temporary, target)
        except FileExistsError:
            return False
        finally:
            temporary.unlink(missing_ok=True)
        fsync_folder(target.parent)
        return True

    def delete(self, path: str) -> None:
        """Removes a file; one that is not there is as good."""
        self.local(path).unlink(missing_ok=True)

    def link(self, source: str, target: str) -> None:
        """Makes `target` the same file as `source`; a copy where links are not possible."""
        try:
            with self._staged(target) as temporary:
                os.link(self.local(source), temporary)
        except OSError:
            self.write(target, self.read(source))

    def glob(self, pattern: str) -> list[str]:
        """Paths that match, sorted."""
        return sorted(path.relative_to(self.root).as_posix() for path in self.root.glob(pattern))

    @contextmanager
    def _staged(self, path: str) -> Iterator[Path]:
        target = self.local(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        # Not `.parquet`: DuckDB's glob matches dotfiles too.
        temporary = target.parent / temporary_name(target.name)
        try:
            yield temporary
            os.replace(temporary, target)
            fsync_folder(target.parent)
        finally:
            with suppress(FileNotFoundError):
                temporary.unlink()


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


def local_root(url: str) -> Path:
    """The folder that a store's URL names.

    Raises:
        InputError: the URL is of a kind that stores cannot be in yet.
    """
    try:
        filesystem, path = url_to_fs(os.fspath(url))
    except (ValueError, ImportError) as error:
        raise InputError(f"store {url!r}: {error}; give a folder") from error
    if not isinstance(filesystem, LocalFileSystem):
        raise InputError(f"store {url!r}: a store must be in a folder of this machine")
    return Path(path).absolute()


def open_marker(files: Files, name: str, content: dict[str, Any], *, create: bool) -> None:
    """Checks a store's marker file, or writes it into an empty folder.

    Raises:
        InputError: the root is a file, no store, of another format, or not writable.
    """
    root = files.root
    if root.exists() and not root.is_dir():
        raise InputError(f"store {root} is a file: give a folder, with execution.store or --store")
    if not files.exists(name):
        _create_marker(files, name, content, create=create)
        return
    if create and not os.access(root, os.W_OK):
        raise InputError(f"store {root} is not writable: change its rights, or use another folder")
    try:
        found = json.loads(files.read(name))
        version = found["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"store {root}: {name} is unreadable ({error}); restore it") from error
    if version != content["format"]:
        raise InputError(
            f"store {root} has format {version}, this version of seal reads "
            f"{content['format']}: use the version that wrote it, or another folder"
        )


def _create_marker(files: Files, name: str, content: dict[str, Any], *, create: bool) -> None:
    root = files.root
    if not create:
        raise InputError(f"{root} is not a SEAL store: give the folder of a run's execution.store")
    try:
        root.mkdir(parents=True, exist_ok=True)
        # Hidden files are other processes creating the same store just now.
        strangers = [entry.name for entry in root.iterdir() if not entry.name.startswith(".")]
        if strangers and not files.exists(name):
            raise InputError(
                f"{root} is not a SEAL store, and not empty (it has {min(strangers)!r}): "
                "give an empty or a new folder"
            )
        files.write(name, (json.dumps(content, sort_keys=True) + "\n").encode())
    except OSError as error:
        raise InputError(
            f"store {root} cannot be created ({error.strerror}): give a folder that is writable"
        ) from error
