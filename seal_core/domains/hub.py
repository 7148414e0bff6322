"""Reads rows through `datasets`: a hub name, a saved folder, or a Parquet file.

The only module that imports `datasets`, and it does so inside functions: the import takes
seconds, which every command that needs no data set would otherwise pay.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

from seal_core.domains.json_text import check_depth
from seal_core.domains.records import Parsed, parse_records
from seal_core.errors import InputError
from seal_core.places import plain_alias, user_path

_SAVED_MARKS = ("dataset_dict.json", "state.json")


def read_dataset(path: str, subset: str | None, split: str) -> Parsed:
    """Reads one split of a data set.

    Args:
        path: A hub name such as `rajpurkar/squad`, a folder written by `save_to_disk`, or a
            folder of data files that `load_dataset` understands.
        subset: The data set's configuration; None for its default.
        split: `train`, `validation`, or a slice such as `train[:100]` (not for saved folders).

    Raises:
        InputError: it cannot be loaded, has no such split, or has a bad row.
    """
    name = f"{path} ({split})"
    folder = user_path(path)
    if not folder.is_dir():
        return parse_records(name, _numbered(name, _loaded(path, subset, split)))
    check_depth(folder)
    with plain_alias(folder, "data") as alias:
        saved = any((folder / mark).exists() for mark in _SAVED_MARKS)
        rows = _saved(path, alias, split) if saved else _of_files(path, alias, subset, split)
        return parse_records(name, _numbered(name, rows))


def read_parquet(file: Path) -> list[tuple[str, Any]]:
    """All rows of a Parquet file as plain Python values, each with its place.

    Raises:
        InputError: the file is not Parquet, or has no rows, or texts that are not UTF-8.
    """
    from datasets import Dataset  # noqa: PLC0415  (slow to import)

    with plain_alias(file, "data.parquet") as alias:
        try:
            table = Dataset.from_parquet(
                str(alias), cache_dir=str(alias.parent), keep_in_memory=True
            )
        except Exception as error:  # datasets raises many types for one broken file
            raise InputError(
                f"{file.name}: it is not a Parquet file with rows ({_cause(error, alias, file)}): "
                "write it again, or use JSON"
            ) from error
        return list(_numbered(file.name, table))


def _numbered(name: str, rows: Any) -> Iterator[tuple[str, Any]]:
    """Rows with their places; Python values are made of them, which can fail, only here."""
    source = iter(rows)
    for i in count(1):
        where = f"{name}: row {i}"
        try:
            row = next(source, None)
        except Exception as error:  # as above
            raise InputError(f"{where}: it cannot be read ({_cause(error)}): save it again") from (
                error
            )
        if row is None:
            return
        yield where, row


def _saved(path: str, alias: Path, split: str) -> Any:
    from datasets import DatasetDict, load_from_disk  # noqa: PLC0415  (slow to import)

    try:
        found = load_from_disk(str(alias))
    except Exception as error:  # as above
        cause = _cause(error, alias, path)
        raise InputError(
            f"{path}: the saved data set cannot be read ({cause}): save it again"
        ) from error
    if not isinstance(found, DatasetDict):
        return found
    if split not in found:
        known = ", ".join(map(str, found))
        raise InputError(f"{path}: it has no split {split!r}: set data.dataset_split to {known}")
    return found[split]


def _of_files(path: str, alias: Path, subset: str | None, split: str) -> Any:
    # The library's cache tells files by their times, which copies may share.
    with tempfile.TemporaryDirectory() as cache:
        return _loaded(path, subset, split, str(alias), cache_dir=cache, keep_in_memory=True)


def _loaded(
    path: str, subset: str | None, split: str, source: str | None = None, **options: Any
) -> Any:
    from datasets import load_dataset  # noqa: PLC0415  (slow to import)

    try:
        return load_dataset(source or path, name=subset, split=split, **options)
    except Exception as error:  # as above, and everything a network can do
        cause = _cause(error, source or path, path)
        raise InputError(
            f"{path}: split {split!r} of the data set cannot be loaded ({cause}): check "
            "data.path, data.subset and data.dataset_split, or give a folder on this machine"
        ) from error


def _cause(error: BaseException, alias: Path | str = "", path: Path | str = "") -> str:
    """The innermost message's first line: `datasets` wraps the useful one.

    Args:
        alias: What `datasets` was given for `path`; the message names that instead.
    """
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    line = lines[0] if lines else type(error).__name__
    return line.replace(str(alias), str(path)) if alias else line
