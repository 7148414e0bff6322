"""The checks of `seal doctor` on a store: its folder or bucket, and the room for it."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from pathlib import Path

from flows.checks import Check
from seal_core.errors import SealError
from storage.files.base import Objects, in_objects
from storage.files.roots import local_state_root, open_files

_LOW_DISK_BYTES = 2 * 2**30
_NEVER = '"00000000000000000000000000000000"'


def store_check(store: str) -> Check:
    """Whether the store can be written, and in object storage whether writes may have conditions.

    A test object is made and removed again.
    """
    try:
        files = open_files(store)
        if not in_objects(files):
            return _folder_check(store, Path(files.root))
        problem = _conditional_writes(files, f"_doctor/{uuid.uuid4().hex}")
    except SealError as error:
        return Check("store", "fail", str(error), "see docs/storage.md, or choose another --store")
    if problem is None:
        return Check("store", "ok", f"{files.root} is writable, and honours conditional writes")
    fix = "use a server that does (S3, MinIO, Ceph, R2), or one machine at a time per run"
    return Check("store", "warn", f"{files.root}: {problem}", fix)


def disk_check(store: str) -> Check:
    """Free space of this machine where the store, or its logs and caches, are."""
    try:
        folder = _existing(local_state_root(store).resolve())
    except SealError as error:
        return Check("disk", "fail", str(error), "choose another --store")
    free = shutil.disk_usage(folder).free
    found = f"{free / 2**30:.0f} GiB free"
    if free < _LOW_DISK_BYTES:
        return Check("disk", "warn", found, "free some space: adapters and Parquet need it")
    return Check("disk", "ok", found)


def _folder_check(store: str, folder: Path) -> Check:
    try:
        with tempfile.TemporaryFile(dir=_existing(folder)):
            return Check("store", "ok", f"{store} is writable")
    except OSError as error:
        return Check(
            "store",
            "fail",
            f"{store}: {error.strerror}",
            "choose another --store, or mend the folder's permissions",
        )


def _existing(folder: Path) -> Path:
    while not folder.exists():
        folder = folder.parent
    return folder


def _conditional_writes(files: Objects, path: str) -> str | None:
    """None if the server refuses a PUT whose condition does not hold, else what it does instead.

    Args:
        path: Of a test object, which is removed again.

    Raises:
        InputError: the credentials do not allow to write, read or delete.
        StoreConnectionError: the server does not answer, or knows no conditions at all.
    """
    if not files.create(path, b"1"):
        return "a new object counts as one that is there already"
    try:
        if files.create(path, b"2") or files.read(path) != b"1":
            return "the server ignores If-None-Match: two machines could execute one run"
        if files.swap(path, b"3", _NEVER) or files.read(path) != b"1":
            return "the server ignores If-Match: two machines could execute one run"
    finally:
        files.delete(path)
    return None
