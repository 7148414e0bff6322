"""Adapters in object storage: uploaded with their digests, used from a verified local copy.

Each object carries the SHA-256 of its content as metadata, which copies of the object keep and
which any other writer loses. So an adapter is verified with a listing and two HEAD requests; where
the metadata is missing, by its content.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from seal_core.errors import StoreError
from seal_core.fingerprint import digest
from storage.files.base import Objects, temporary_name
from storage.files.roots import cache_root
from storage.weights.folders import file_digests, is_whole, place, remove_folder

_SHA256 = "sha256"
_verified: set[Path] = set()
"""Cached folders that this process has checked; their digest is not computed again."""


def adapter_cache() -> Path:
    """Folder of local copies, each named by its digest; the user may delete any of them."""
    return cache_root() / "adapters"


def digests_problem(uri: str, digests: Mapping[str, str], sha256: str) -> str | None:
    """None if an adapter whose files have these digests is whole, else what is wrong with it."""
    if not digests:
        return f"{uri}: the adapter is missing"
    found = digest(digests)
    return None if found == sha256 else f"{uri}: the adapter's digest is {found[:12]}"


def upload_adapter(files: Objects, uri: str, staging: Path) -> None:
    """Writes the objects of an adapter unless they are whole already, and keeps a local copy."""
    digests = file_digests(staging)
    if object_digests(files, uri) != digests:
        for path in files.glob(f"{uri}/*"):
            if _name(path) not in digests:
                files.delete(path)
        for name in sorted(digests):
            files.upload(f"{uri}/{name}", staging / name, {_SHA256: digests[name]})
    place(staging, adapter_cache() / _name(uri))


def object_digests(files: Objects, uri: str) -> dict[str, str]:
    """Digest of each object of an adapter, by name: as recorded with it, else of its content."""
    recorded: dict[str, str] = {}
    for path in files.glob(f"{uri}/*"):
        stamp = files.stamp(path)
        if stamp is None or _SHA256 not in stamp.metadata:
            return _fetch(files, uri)
        recorded[_name(path)] = stamp.metadata[_SHA256]
    return recorded


def download_adapter(files: Objects, uri: str) -> Path:
    """The local copy of an adapter, made if it is not there or not whole.

    Raises:
        StoreError: the adapter is missing or damaged.
    """
    target = adapter_cache() / _name(uri)
    if _is_whole(target):
        return target
    if problem := digests_problem(uri, _fetch(files, uri), target.name):
        raise StoreError(f"{problem}: resume the run that made it")
    return target


def _fetch(files: Objects, uri: str) -> dict[str, str]:
    """Downloads an adapter, and keeps it if it is whole; the digests of its files, none if one is
    missing."""
    staging = adapter_cache() / temporary_name("download")
    staging.mkdir(parents=True)
    try:
        for path in files.glob(f"{uri}/*"):
            files.download(path, staging / _name(path))
        digests = file_digests(staging)
        if digest(digests) == _name(uri):
            place(staging, adapter_cache() / _name(uri))
        return digests
    except FileNotFoundError:  # It is gone since it was listed.
        return {}
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _name(path: str) -> str:
    """The last level of a path; of an adapter's, its digest."""
    return path.rpartition("/")[2]


def remove_objects(files: Objects, uri: str) -> None:
    """Deletes the objects of an adapter, and its local copy."""
    for path in files.glob(f"{uri}/*"):
        files.delete(path)
    target = adapter_cache() / _name(uri)
    _verified.discard(target)
    remove_folder(target, adapter_cache())


def _is_whole(target: Path) -> bool:
    if target not in _verified and is_whole(target):
        _verified.add(target)
    return target in _verified and target.is_dir()
