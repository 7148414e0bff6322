"""Folders that are named by the digest of their files: under such a name is never half of one."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from seal_core.errors import StoreError
from seal_core.fingerprint import digest
from storage.files.base import temporary_name
from storage.files.local import file_sha256, fsync_folder


def file_digests(folder: Path) -> dict[str, str]:
    """Digest of each file of a folder, by name; the digest of these is the folder's."""
    return {path.name: file_sha256(path) for path in folder.iterdir()}


def is_whole(folder: Path) -> bool:
    """Whether a folder is there, with the files of its name."""
    with suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return digest(file_digests(folder)) == folder.name
    return False


def place(staging: Path, target: Path) -> None:
    """Renames a checked folder to its digest, unless there is a whole one.

    Raises:
        StoreError: it could not be renamed.
    """
    if target.exists() and not is_whole(target):
        remove_folder(target, staging.parent)
    target.parent.mkdir(exist_ok=True)
    fsync_folder(staging)
    try:
        staging.rename(target)
    except OSError as error:
        # It was there, or another process has just put it; a folder is never renamed over it.
        if not is_whole(target):
            raise StoreError(f"{target} could not be written: {error}") from error
    fsync_folder(target.parent)


def remove_folder(folder: Path, room: Path) -> None:
    """Removes a folder, if it is there; who reads it keeps its open files.

    Args:
        room: A folder on the same disk, to set it aside in.
    """
    doomed = room / temporary_name("removed")
    with suppress(FileNotFoundError):
        folder.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)
