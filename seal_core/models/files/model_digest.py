"""Digests a model's files, and tells when they are no longer those that were digested.

The digest is the model's part of every stage's identity, so it covers what changes answers
(weights, config, tokenizer) and not a README or the folder's place on the disk.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seal_core.errors import InputError
from seal_core.fingerprint import digest
from seal_core.models.files.model_files import read_names

_CHUNK = 1 << 22


_Known = dict[str, list[Any]]
"""Each file's stamp (see `_stamp`) and digest, by its absolute path."""


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model's files as they were digested.

    Attributes:
        digests: SHA-256 of each file by its path in the folder.
        known: The same as it is remembered, with what tells that it may have changed.
    """

    folder: str
    digests: dict[str, str]
    known: _Known

    @property
    def digest(self) -> str:
        """What the model's answers depend on, as one text that is stable between machines."""
        return digest(self.digests)

    def check(self) -> None:
        """Passes if the files are still the same; one that was only touched is read for that.

        Weights on a CPU are mapped into memory: a file that is written again changes a model
        that is in use.

        Raises:
            InputError: They are not, or cannot be read.
        """
        found = _digests(Path(self.folder), self.known)
        if found != self.digests:
            raise InputError(
                f"the files of the model in {self.folder} changed while it was in use "
                f"({differences(self.digests, found)}): what it answered since is not kept; put "
                "the old files back and go on with the same command, or start anew with --name NEW"
            )


def digest_model(folder: str, cache_path: Path | None = None, rehash: bool = False) -> ModelFiles:
    """Digests all that may be read of a model that passed `check_model_folder`.

    Args:
        cache_path: JSON file that remembers file digests by path, size, times of modification and
            change, and inode, so that 15 GB of weights are hashed once; None to hash every time.
        rehash: Hash them whatever is remembered, and remember what is found.

    Raises:
        InputError: A file cannot be read.
    """
    memory = _read_cache(cache_path)
    place = Path(folder)
    keys = {_key(place / name) for name in read_names(place)}
    known = {} if rehash else {key: memory[key] for key in keys if key in memory}
    digests = _digests(place, known)
    if cache_path is not None and memory | known != memory:
        with suppress(OSError):  # It may be read-only: then the files are hashed the next time.
            _write_cache(cache_path, memory | known)
    return ModelFiles(folder, digests, known)


def differences(old: Mapping[str, str], new: Mapping[str, str]) -> str:
    """In words, by file, how two models differ."""
    words = {
        "other": [name for name in old if name in new and old[name] != new[name]],
        "new": [name for name in new if name not in old],
        "gone": [name for name in old if name not in new],
    }
    return "; ".join(
        f"{word}: {', '.join(sorted(names))}" for word, names in words.items() if names
    )


def _digests(folder: Path, known: _Known) -> dict[str, str]:
    try:
        return {name: _file_digest(folder / name, known) for name in read_names(folder)}
    except OSError as error:
        raise InputError(f"cannot read the model in {folder}: {error}") from error


def _key(file: Path) -> str:
    return str(file.resolve())


def _file_digest(file: Path, known: _Known) -> str:
    key, stamp = _key(file), _stamp(file)
    entry = known.get(key)
    if isinstance(entry, list) and entry[:-1] == stamp:
        return str(entry[-1])
    hasher = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            hasher.update(chunk)
    if _stamp(file) == stamp:  # Else it was being written: hash it again the next time.
        known[key] = [*stamp, hasher.hexdigest()]
    return hasher.hexdigest()


def _stamp(file: Path) -> list[int]:
    """What differs when a file's contents may: copies can keep size and modification time."""
    stat = file.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _read_cache(cache_path: Path | None) -> _Known:
    if cache_path is None or not cache_path.is_file():
        return {}
    try:
        known = json.loads(cache_path.read_text())
    except ValueError:
        return {}  # A damaged cache costs one hashing, never a run.
    return known if isinstance(known, dict) else {}


def _write_cache(cache_path: Path, known: _Known) -> None:
    cache_path.parent.mkdir(parents=True, exist_ok=True)
    temporary = cache_path.with_name(f".{cache_path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(known, sort_keys=True))
    os.replace(temporary, cache_path)
