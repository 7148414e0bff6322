"""Adapter folders, addressed by the digest of their contents; safetensors and JSON only."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seal_core.errors import StoreError
from seal_core.fingerprint import digest
from storage.files.base import Files, in_objects, temporary_name
from storage.files.local import LocalFiles
from storage.weights.folders import file_digests, place, remove_folder
from storage.weights.object_adapters import (
    adapter_cache,
    digests_problem,
    download_adapter,
    object_digests,
    remove_objects,
    upload_adapter,
)

FOLDER = "_adapters"
_URI = re.compile(rf"{FOLDER}/([0-9a-f]{{2}})/(\1[0-9a-f]{{62}})")
_CONFIG = "adapter_config.json"
_NOTES = {"README.md", ".gitattributes"}
_UNORDERED = ("target_modules", "modules_to_save", "exclude_modules")
_HEADER_LIMIT = 100_000_000


def put_adapter(
    files: Files, folder: Path, note: Mapping[str, str] | None = None
) -> tuple[str, str]:
    """Copies a PEFT folder into the store, once per content.

    Args:
        note: Entries to add to its config.

    Returns:
        The folder's path relative to the store's root, and its digest.

    Raises:
        StoreError: the folder lacks weights or config, or holds anything that could execute.
    """
    parent = files.local(FOLDER) if isinstance(files, LocalFiles) else adapter_cache()
    parent.mkdir(parents=True, exist_ok=True)
    staging = parent / temporary_name("adapter")
    staging.mkdir()
    try:
        for source in _sources(folder):
            _copy(source, staging / source.name, note or {})
        sha256 = digest(file_digests(staging))
        uri = f"{FOLDER}/{sha256[:2]}/{sha256}"
        if in_objects(files):
            upload_adapter(files, uri, staging)
        elif isinstance(files, LocalFiles):
            place(staging, files.local(uri))
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return uri, sha256


def verify_adapter(files: Files, uri: str, sha256: str) -> str | None:
    """None if the adapter is whole, else what is wrong with it."""
    check_uri(uri)
    try:
        if in_objects(files):
            return digests_problem(uri, object_digests(files, uri), sha256)
        return digests_problem(uri, file_digests(Path(files.root) / uri), sha256)
    except (FileNotFoundError, NotADirectoryError):
        return f"{uri}: the adapter is missing"
    except IsADirectoryError as error:
        return f"{uri}: the adapter is unreadable ({error.strerror})"


def adapter_folder(files: Files, uri: str) -> Path:
    """Local folder of an adapter; for object storage, of its verified copy in the cache.

    Raises:
        StoreError: `uri` is not one that `put_adapter` gave, or the adapter in object storage is
            missing or damaged.
    """
    check_uri(uri)
    return download_adapter(files, uri) if in_objects(files) else Path(files.root) / uri


def remove_adapter(files: Files, uri: str) -> None:
    """Deletes an adapter; nothing to do if it is not there.

    Raises:
        StoreError: `uri` is not one that `put_adapter` gave.
    """
    check_uri(uri)
    if in_objects(files):
        remove_objects(files, uri)
    elif isinstance(files, LocalFiles):
        remove_folder(files.local(uri), files.local(FOLDER))


def pruned_mark(uri: str) -> str:
    """Path of the mark that an adapter's weights were removed on purpose."""
    return f"_pruned/{check_uri(uri)}.json"


def is_pruned(files: Files, uri: str) -> bool:
    """Whether an adapter's weights are not there, and were removed on purpose."""
    return not files.exists(uri) and files.exists(pruned_mark(uri))


def check_uri(uri: str) -> str:
    """The digest in an adapter's URI.

    Raises:
        StoreError: it is no such URI.
    """
    match = _URI.fullmatch(uri)
    if match is None:
        raise StoreError(f"{uri!r} is no adapter of a store")
    return match[2]


def _sources(folder: Path) -> list[Path]:
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    for name in ("adapter_model.safetensors", _CONFIG):
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


def _copy(source: Path, target: Path, note: Mapping[str, str]) -> None:
    if source.suffix == ".json":
        own = note if source.name == _CONFIG else {}
        target.write_text(_normal_json(source, own), encoding="utf-8")
    else:
        shutil.copyfile(source, target)
    with target.open("rb+") as file:
        os.fsync(file.fileno())


def _normal_json(source: Path, note: Mapping[str, str]) -> str:
    """PEFT writes sets in an order that changes with each process: equal adapters must be equal."""
    try:
        value: Any = json.loads(source.read_text(encoding="utf-8"))
    except ValueError as error:
        raise StoreError(f"{source} is not JSON: {error}") from error
    if isinstance(value, dict):
        for name in _UNORDERED:
            if isinstance(value.get(name), list):
                value[name] = sorted(value[name])
        value.update(note)
    return json.dumps(value, indent=2, sort_keys=True) + "\n"
