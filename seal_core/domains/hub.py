"""Reads rows through `datasets`: a hub name, a saved folder, or a Parquet file.

The only module that imports `datasets`, and it does so inside functions: the import takes
seconds, which every command that needs no data set would otherwise pay.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from seal_core.domains.json_text import check_text
from seal_core.domains.records import Parsed, parse_records
from seal_core.errors import InputError

_JSON_FILES = (".json", ".jsonl", ".ndjson")
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
    if any((Path(path) / mark).exists() for mark in _SAVED_MARKS):
        return parse_records(name, _numbered(name, _saved(path, split)))
    if not Path(path).exists():
        # The library keeps these by their commit on the hub.
        return parse_records(name, _numbered(name, _loaded(path, subset, split)))
    # It would keep these by the files' names and times, and copies can keep both.
    with tempfile.TemporaryDirectory(prefix="seal-data-") as cache:
        return parse_records(name, _numbered(name, _loaded(path, subset, split, cache)))


def read_parquet(file: Path) -> list[dict[str, Any]]:
    """All rows of a Parquet file as plain Python values.

    Raises:
        InputError: the file is not Parquet, or has no rows.
    """
    from datasets import Dataset  # noqa: PLC0415  (slow to import)

    with tempfile.TemporaryDirectory() as cache:
        try:
            table = Dataset.from_parquet(str(file), cache_dir=cache, keep_in_memory=True)
        except Exception as error:  # datasets raises many types for one broken file
            raise InputError(
                f"{file.name}: it is not a Parquet file with rows ({_cause(error)}): "
                "write it again, or use JSON"
            ) from error
        return [row for _, row in _numbered(file.name, table)]


def _numbered(name: str, rows: Any) -> Iterator[tuple[str, Any]]:
    """Each row with its position; rows are decoded one by one, so any of them may be the bad one.

    Raises:
        InputError: a row cannot be decoded, such as text that is not UTF-8.
    """
    iterator = iter(rows)
    for i in itertools.count(1):
        place = f"{name}: row {i}"
        try:
            row = next(iterator)
        except StopIteration:
            return
        except Exception as error:  # of pyarrow, of a decoder of images, and many more
            raise InputError(
                f"{place}: it cannot be read ({_cause(error)}): write its text as UTF-8"
            ) from error
        yield place, row


def _saved(path: str, split: str) -> Any:
    from datasets import DatasetDict, load_from_disk  # noqa: PLC0415  (slow to import)

    try:
        found = load_from_disk(path)
    except Exception as error:  # as above
        raise InputError(
            f"{path}: the saved data set cannot be read ({_cause(error)}): save it again"
        ) from error
    if not isinstance(found, DatasetDict):
        return found
    if split not in found:
        known = ", ".join(map(str, found))
        raise InputError(f"{path}: it has no split {split!r}: set data.dataset_split to {known}")
    return found[split]


def _loaded(path: str, subset: str | None, split: str, cache: str | None = None) -> Any:
    from datasets import load_dataset_builder  # noqa: PLC0415  (slow to import)

    try:
        builder = load_dataset_builder(path, name=subset, cache_dir=cache)
        for files in (builder.config.data_files or {}).values():
            for file in filter(_is_local_json, files):
                check_text(Path(file))
        builder.download_and_prepare()
        return builder.as_dataset(split=split)
    except InputError:
        raise
    except Exception as error:  # as above, and everything a network can do
        raise InputError(
            f"{path}: split {split!r} of the data set cannot be loaded ({_cause(error)}): check "
            "data.path, data.subset and data.dataset_split, or give a folder on this machine"
        ) from error


def _is_local_json(file: str) -> bool:
    return file.lower().endswith(_JSON_FILES) and Path(file).is_file()


def _cause(error: BaseException) -> str:
    """The innermost message's first line: `datasets` wraps the useful one."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
