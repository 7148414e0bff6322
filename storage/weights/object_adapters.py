"""Adapters in object storage: uploaded with their digests, used from a verified local copy.

Each object carries the SHA-256 of its content as metadata, which copies of the object keep and
which any other writer loses. So an adapter is verified with a listing and two HEAD requests; where
the metadata is missing, by its content.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from seal_core.errors import StoreError
from seal_core.fingerprint import digest
from storage.files.base import Objects, temporary_name
from storage.files.local import file_sha256
from storage.files.roots import cache_root
from storage.weights.folders import folder_digest, is_whole, place, remove_folder

_SHA256 = "sha256"
_verified: set[Path] = set()
"""Cached folders that this process has checked; their digest is not computed again."""


def adapter_cache() -> Path:
    """Folder of local copies, each named by its digest; the user may delete any of them."""
    return cache_root() / "adapters"


def upload_adapter(files: Objects, uri: str, staging: Path) -> None:
    """Writes the objects of an adapter unless they are whole already, and keeps a local copy."""
    digests = {path.name: file_sha256(path) for path in staging.iterdir()}
    sha256 = digest(digests)
    if verify_objects(files, uri, sha256) is not None:
        for path in files.glob(f"{uri}/*"):
            if path.rpartition("/")[2] not in digests:
                files.delete(path)
        for name in sorted(digests):
            files.upload(f"{uri}/{name}", staging / name, {_SHA256: digests[name]})
    place(staging, adapter_cache() / sha256)


def verify_objects(files: Objects, uri: str, sha256: str) -> str | None:
    """None if the adapter is whole, else what is wrong with it."""
    recorded: dict[str, str | None] = {}
    for path in files.glob(f"{uri}/*"):
        # It may be gone since it was listed.
        if (stamp := files.stamp(path)) is not None:
            recorded[path.rpartition("/")[2]] = stamp.metadata.get(_SHA256)
    if not recorded:
        return f"{uri}: the adapter is missing"
    if None in recorded.values():
        return _fetch(files, uri)
    return _differs(uri, digest(recorded), sha256)


def download_adapter(files: Objects, uri: str) -> Path:
    """The local copy of an adapter, made if it is not there or not whole.

    Raises:
        StoreError: the adapter is missing or damaged.
    """
    target = adapter_cache() / uri.rpartition("/")[2]
    if not _is_whole(target) and (problem := _fetch(files, uri)):
        raise StoreError(f"{problem}: resume the run that made it")
    return target


def _fetch(files: Objects, uri: str) -> str | None:
    """Downloads an adapter and checks its content; None if it is whole, and then it is kept."""
    sha256 = uri.rpartition("/")[2]
    staging = adapter_cache() / temporary_name("download")
    staging.mkdir(parents=True)
    try:
        for path in files.glob(f"{uri}/*"):
            files.download(path, staging / path.rpartition("/")[2])
        if not any(staging.iterdir()):
            return f"{uri}: the adapter is missing"
        if problem := _differs(uri, folder_digest(staging), sha256):
            return problem
        place(staging, adapter_cache() / sha256)
    except FileNotFoundError:
        return f"{uri}: the adapter is missing"
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return None


def _differs(uri: str, found: str, sha256: str) -> str | None:
    return None if found == sha256 else f"{uri}: the adapter's digest is {found[:12]}"


def remove_objects(files: Objects, uri: str) -> None:
    """Deletes the objects of an adapter, and its local copy."""
    for path in files.glob(f"{uri}/*"):
        files.delete(path)
    target = adapter_cache() / uri.rpartition("/")[2]
    _verified.discard(target)
    remove_folder(target, adapter_cache())


def _is_whole(target: Path) -> bool:
    if target not in _verified and is_whole(target):
        _verified.add(target)
    return target in _verified and target.is_dir()
