"""Adapter folders, addressed by the digest of their contents; safetensors and JSON only."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

from seal_core.errors import StoreError
from seal_core.fingerprint import digest
from storage.files import Files, file_sha256, fsync_folder, temporary_name

FOLDER = "_adapters"
_URI = re.compile(rf"{FOLDER}/([0-9a-f]{{2}})/(\1[0-9a-f]{{62}})")
_NOTES = {"README.md", ".gitattributes"}
_UNORDERED = ("target_modules", "modules_to_save", "exclude_modules")
_HEADER_LIMIT = 100_000_000


def put_adapter(files: Files, folder: Path) -> tuple[str, str]:
    """Copies a PEFT folder into the store, once per content.

    Returns:
        The folder's path relative to the store's root, and its digest.

    Raises:
        StoreError: the folder lacks weights or config, or holds anything that could execute.
    """
    parent = files.local(FOLDER)
    parent.mkdir(exist_ok=True)
    staging = parent / temporary_name("adapter")
    staging.mkdir()
    try:
        for source in _sources(folder):
            _copy(source, staging / source.name)
        sha256 = _digest(staging)
        uri = f"{FOLDER}/{sha256[:2]}/{sha256}"
        _place(files, staging, uri, sha256)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return uri, sha256


def verify_adapter(files: Files, uri: str, sha256: str) -> str | None:
    """None if the adapter is whole, else what is wrong with it."""
    folder = adapter_folder(files, uri)
    if not folder.is_dir():
        return f"{uri}: the adapter is missing"
    try:
        found = _digest(folder)
    except OSError as error:
        return f"{uri}: the adapter is unreadable ({error.strerror})"
    return None if found == sha256 else f"{uri}: the adapter's digest is {found[:12]}"


def adapter_folder(files: Files, uri: str) -> Path:
    """Local folder of an adapter.

    Raises:
        StoreError: `uri` is not one that `put_adapter` gave.
    """
    if not _URI.fullmatch(uri):
        raise StoreError(f"{uri!r} is no adapter of a store")
    return files.local(uri)


def _sources(folder: Path) -> list[Path]:
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        if name not in names:
            raise StoreError(f"{folder} has no {name}: it is no PEFT adapter")
    paths = [folder / name for name in sorted(names - _NOTES)]
    for path in paths:
        if path.suffix not in (".safetensors", ".json") or not path.is_file():
            raise StoreError(f"{path}: an adapter holds .safetensors and .json files only")
        if path.suffix == ".safetensors":
            _check_safetensors(path)
    return paths


def _check_safetensors(path: Path) -> None:
    """The name proves nothing: a pickle could be called safetensors."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        try:
            header = json.loads(file.read(length)) if length <= _HEADER_LIMIT else None
        except ValueError:
            header = None
    if not isinstance(header, dict):
        raise StoreError(f"{path} is not in safetensors format")


def _copy(source: Path, target: Path) -> None:
    if source.suffix == ".json":
        target.write_text(_normal_json(source), encoding="utf-8")
    else:
        shutil.copyfile(source, target)
    with target.open("rb+") as file:
        os.fsync(file.fileno())


def _normal_json(source: Path) -> str:
    """PEFT writes sets in an order that changes with each process: equal adapters must be equal."""
    try:
        value: Any = json.loads(source.read_text(encoding="utf-8"))
    except ValueError as error:
        raise StoreError(f"{source} is not JSON: {error}") from error
    if isinstance(value, dict):
        for name in _UNORDERED:
            if isinstance(value.get(name), list):
                value[name] = sorted(value[name])
    return json.dumps(value, indent=2, sort_keys=True) + "\n"


def _digest(folder: Path) -> str:
    return digest({path.name: file_sha256(path) for path in folder.iterdir()})


def _place(files: Files, staging: Path, uri: str, sha256: str) -> None:
    target = files.local(uri)
    target.parent.mkdir(exist_ok=True)
    fsync_folder(staging)
    if target.exists() and verify_adapter(files, uri, sha256) is not None:
        damaged = staging.with_name(temporary_name("damaged"))
        target.rename(damaged)
        shutil.rmtree(damaged, ignore_errors=True)
    try:
        staging.rename(target)
    except OSError as error:
        # Another process may have put the same adapter; a folder is never renamed over it.
        if verify_adapter(files, uri, sha256) is not None:
            raise StoreError(f"{uri} could not be written: {error}") from error
    fsync_folder(target.parent)
