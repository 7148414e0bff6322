"""The marker file that makes a folder or a prefix a store, and guards it against other formats."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from seal_core.errors import InputError, StoreError
from storage.files.base import Files, in_objects
from storage.files.json_records import decode_record, write_record
from storage.files.local import LocalFiles

RUN_RECORDS = "_runs"


def open_marker(files: Files, name: str, content: dict[str, Any], *, create: bool) -> str | None:
    """Checks a store's marker file, or writes it into an empty root.

    A marker that is damaged or gone is written again beside runs that are there.

    Returns:
        What was wrong with the marker if it was written again, else None.

    Raises:
        InputError: the root is a file, no store, of another format, or not writable.
    """
    if isinstance(files, LocalFiles) and files.root.exists() and not files.root.is_dir():
        raise InputError(
            f"store {files.root} is a file: give a folder, with execution.store or --store"
        )
    problem = None
    try:
        _check_format(files, name, content)
    except (FileNotFoundError, NotADirectoryError):
        if not (create and _has_runs(files)):
            _create_marker(files, name, content, create=create)
            return None
        problem = f"{name}: the marker is missing"
    except OSError as error:
        raise InputError(f"store {files.root}: {name} is unreadable ({error})") from error
    except StoreError as error:
        if not (create and _has_runs(files)):
            raise InputError(f"store {files.root}: {error}; a `seal run` in it mends it") from error
        problem = str(error)
    if create and isinstance(files, LocalFiles) and not os.access(files.root, os.W_OK):
        raise InputError(
            f"store {files.root} is not writable: change its rights, or use another folder"
        )
    if problem:
        write_record(files, name, content)
        return f"{problem}; written again"
    return None


def _has_runs(files: Files) -> bool:
    """Whether a run is there; its record, or its row, may be lost as well."""
    patterns = (f"{RUN_RECORDS}/*.json", "runs/run=*/round=*/part-*.parquet")
    return any(files.glob(pattern) for pattern in patterns)


def _check_format(files: Files, name: str, content: dict[str, Any]) -> None:
    """Raises StoreError if the marker is damaged, InputError if it is of another format."""
    data = files.read(name)
    try:
        version = decode_record(data, name)["format"]
    except (StoreError, KeyError, TypeError) as error:
        version = _format_without_digest(data)
        if version is None:
            raise StoreError(f"{name}: the marker is damaged") from error
    if version != content["format"]:
        raise InputError(
            f"store {files.root} has format {version}, this version of seal reads "
            f"{content['format']}: use the version that wrote it, or another folder"
        )


def _format_without_digest(data: bytes) -> int | None:
    """Markers with a digest do not hold the format at the top; those of format 1 do."""
    try:
        return int(json.loads(data)["format"])
    except (ValueError, KeyError, TypeError):
        return None


def _create_marker(files: Files, name: str, content: dict[str, Any], *, create: bool) -> None:
    root = files.root
    if not create:
        if isinstance(files, LocalFiles) and not files.root.exists():
            raise InputError(
                f"there is no store at {root}: start a run with `seal run`, or give the folder of "
                "one with --store or SEAL_STORE"
            )
        raise InputError(f"{root} is not a SEAL store: give the folder of a run's execution.store")
    try:
        stranger = _stranger(files)
        if stranger and not files.exists(name):
            raise InputError(
                f"{root} is not a SEAL store, and not empty (it has {stranger!r}): "
                "give an empty or a new folder"
            )
        write_record(files, name, content)
    except OSError as error:
        raise InputError(
            f"store {root} cannot be created ({error.strerror}): give a folder that is writable"
        ) from error


def _stranger(files: Files) -> str | None:
    """Something in the root that is not ours; None if there is nothing."""
    if in_objects(files):
        return files.first()
    root = Path(files.root)
    root.mkdir(parents=True, exist_ok=True)
    # Hidden files are other processes creating the same store just now.
    return min((e.name for e in root.iterdir() if not e.name.startswith(".")), default=None)
