"""The marker file that makes a folder or a prefix a store, and guards it against other formats."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from seal_core.errors import InputError
from storage.files import Files, in_folder, in_objects


def open_marker(files: Files, name: str, content: dict[str, Any], *, create: bool) -> None:
    """Checks a store's marker file, or writes it into an empty root.

    Raises:
        InputError: the root is a file, no store, of another format, or not writable.
    """
    if in_folder(files) and files.root.exists() and not files.root.is_dir():
        raise InputError(
            f"store {files.root} is a file: give a folder, with execution.store or --store"
        )
    try:
        data = files.read(name)
    except (FileNotFoundError, NotADirectoryError):
        _create_marker(files, name, content, create=create)
        return
    except OSError as error:
        raise InputError(f"store {files.root}: {name} is unreadable ({error})") from error
    if create and in_folder(files) and not os.access(files.root, os.W_OK):
        raise InputError(
            f"store {files.root} is not writable: change its rights, or use another folder"
        )
    _check_format(files.root, name, data, content)


def _check_format(root: Path | str, name: str, data: bytes, content: dict[str, Any]) -> None:
    try:
        version = json.loads(data)["format"]
    except (ValueError, KeyError, TypeError) as error:
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
        stranger = _stranger(files)
        if stranger and not files.exists(name):
            raise InputError(
                f"{root} is not a SEAL store, and not empty (it has {stranger!r}): "
                "give an empty or a new folder"
            )
        files.write(name, (json.dumps(content, sort_keys=True) + "\n").encode())
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
