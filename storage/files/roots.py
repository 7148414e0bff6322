"""Where a store is: opens the folder or bucket that a URL names, and finds local room for it.

What must be on this machine (logs, locks, Prefect's database, adapters for the engines) is in the
store's folder, or, for a store in object storage, in a cache folder: `SEAL_CACHE`, or `seal` in
`XDG_CACHE_HOME` or `~/.cache`.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import re
from pathlib import Path

from seal_core.errors import InputError
from seal_core.places import user_path
from storage.files.base import Files
from storage.files.local import LocalFiles

_S3 = "s3://"
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,62}")
_UNSAFE = re.compile(r"[\x00-\x1f\x7f]|\?versionId=")


def open_files(url: str) -> Files:
    """The files below a store's root: a folder, a `file://` URL, or `s3://bucket/prefix`.

    Raises:
        InputError: the URL is of a kind that stores cannot be in, or the bucket cannot be reached.
    """
    text = os.fspath(url)
    if not text.startswith(_S3):
        return LocalFiles(_folder(text))
    root = _bucket_root(text)
    try:
        # Only these stores need s3fs, which is optional, and takes half a second to import.
        module = importlib.import_module("storage.files.objects")
    except ImportError as error:
        raise InputError(
            f"store {root}: {error.name} is not installed: pip install 'seal-pipeline[s3]'"
        ) from error
    return module.connect(root)


def cache_root() -> Path:
    """Folder of this machine for what can be had again; the user may empty it at any time."""
    if chosen := os.environ.get("SEAL_CACHE"):
        return user_path(chosen).absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "seal"


def local_state_root(root: Path | str) -> Path:
    """Folder of this machine for a store's logs, locks and Prefect's home; may not exist yet.

    Args:
        root: `Files.root`, or the URL that was opened.
    """
    text = os.fspath(root)
    if isinstance(root, Path) or not text.startswith(_S3):
        return _folder(text)
    name = hashlib.sha256(_bucket_root(text).encode()).hexdigest()[:16]
    return cache_root() / "stores" / name


def _folder(url: str) -> Path:
    # Not through fsspec, for which `::` in a folder's name would have a meaning.
    scheme, separator, path = url.partition("://")
    if separator and scheme != "file":
        raise InputError(f"store {url!r}: a store is in a folder of this machine, or at s3://…")
    return user_path(path if separator else url).absolute()


def _bucket_root(url: str) -> str:
    """The URL without slashes at its end."""
    bucket, _, prefix = url.removeprefix(_S3).rstrip("/").partition("/")
    if "@" in bucket or ":" in bucket:
        raise InputError(
            "store s3://…: give bucket and prefix only; credentials and endpoint come from the "
            "environment (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, …)"
        )
    if not _BUCKET.fullmatch(bucket):
        raise InputError(f"store {url!r}: {bucket!r} is no bucket name; write s3://bucket/prefix")
    if prefix and ({"", ".", ".."} & set(prefix.split("/")) or _UNSAFE.search(prefix)):
        raise InputError(
            f"store {url!r}: a prefix has no empty, '.' or '..' level, no control characters, and "
            "no ?versionId="
        )
    return _S3 + bucket + (f"/{prefix}" if prefix else "")
