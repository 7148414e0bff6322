"""Reads rows through `datasets`: a hub name, a saved folder, or a Parquet file.

The only module that imports `datasets`, and it does so inside a function: the import takes
seconds, which every command that needs no data set would otherwise pay.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import fields
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

from seal_core.domains.file_rows import Row, any_json_rows, csv_rows, plain_cells, read_text
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
        return parse_records(name, _loaded(path, subset, split))
    with plain_alias(folder, "data") as alias, tempfile.TemporaryDirectory() as room:
        if any((folder / mark).exists() for mark in _SAVED_MARKS):
            return parse_records(name, _numbered(name, _saved(path, alias, split)))
        # The library's cache tells files by their times, which copies may share.
        return parse_records(name, _loaded(path, subset, split, str(alias), room))


def read_parquet(file: Path, name: str = "") -> list[Row]:
    """All rows of a Parquet file as plain Python values, each with its place.

    Args:
        name: For messages; the file's own by default.

    Raises:
        InputError: the file is not Parquet, or has no rows, or texts that are not UTF-8.
    """
    name = name or file.name
    with plain_alias(file, "data.parquet") as alias:
        try:
            table = _library().Dataset.from_parquet(
                str(alias), cache_dir=str(alias.parent), keep_in_memory=True
            )
        except Exception as error:  # datasets raises many types for one broken file
            raise InputError(
                f"{name}: it is not a Parquet file with rows ({_cause(error, alias, file)}): "
                "write it again, or use JSON"
            ) from error
        return list(_numbered(name, table))


@cache
def _library() -> Any:
    import datasets  # noqa: PLC0415  (slow to import)

    # What its readers log they raise as well, and that becomes one line.
    logging.getLogger("datasets.packaged_modules").setLevel(logging.CRITICAL)
    return datasets


def _numbered(name: str, rows: Any) -> Iterator[Row]:
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
    try:
        found = _library().load_from_disk(str(alias))
    except Exception as error:  # as above
        cause = _cause(error, alias, path)
        raise InputError(
            f"{path}: the saved data set cannot be read ({cause}): save it again"
        ) from error
    if not isinstance(found, _library().DatasetDict):
        return found
    if split not in found:
        known = ", ".join(map(str, found))
        raise InputError(f"{path}: it has no split {split!r}: set data.dataset_split to {known}")
    return found[split]


def _loaded(
    path: str, subset: str | None, split: str, alias: str = "", room: str | None = None
) -> Iterable[Row]:
    try:
        builder = _library().load_dataset_builder(alias or path, name=subset, cache_dir=room)
        if alias and builder.name in ("json", "csv", "parquet"):
            return _of_files(builder, split, path, alias, room)
        builder.download_and_prepare()
        rows = builder.as_dataset(split=split, in_memory=room is not None)
    except InputError:
        raise
    except Exception as error:  # as above, and everything a network can do
        cause = _cause(error, alias or path, path)
        raise InputError(
            f"{path}: split {split!r} of the data set cannot be loaded ({cause}): check "
            "data.path, data.subset and data.dataset_split, or give a folder on this machine"
        ) from error
    numbered = _numbered(f"{path} ({split})", rows)
    if builder.name == "csv":
        return ((where, plain_cells(where, row)) for where, row in numbered)
    return numbered


def _of_files(builder: Any, split: str, path: str, alias: str, room: str | None) -> list[Row]:
    """Rows of files that `datasets` finds, downloads and unpacks.

    It would guess types, chunk by chunk, and convert later chunks to the first one's: "007" becomes
    "7", a date gets a time.
    """
    _check_options(builder.config, path)
    config = _library().DownloadConfig(cache_dir=room, token=builder.token)
    downloads = _library().DownloadManager(download_config=config, base_path=builder.base_path)
    rows: dict[str, list[Row]] = {}
    for name, files in builder.config.data_files.items():
        wanted = map(str, files if str(name) in split else ())
        rows[str(name)] = [
            row
            for file in wanted
            for place, part in _unpacked(downloads, file, file.replace(alias or path, path))
            for row in _rows(builder, part, place)
        ]
    lengths = {name: len(found) for name, found in rows.items()}
    parts = _library().ReadInstruction.from_spec(split).to_absolute(lengths)
    return [row for part in parts for row in rows[part.splitname][part.from_ : part.to]]


def _unpacked(downloads: Any, file: str, shown: str) -> Iterator[tuple[str, Path]]:
    """The file, or the files in an archive, each with its name for messages."""
    try:
        found = Path(downloads.extract(downloads.download(file)))
    except Exception as error:  # as above
        cause = _cause(error, file, shown)
        raise InputError(f"{shown}: cannot be read ({cause}): write it again") from error
    for part in map(Path, downloads.iter_files(str(found))):
        yield (f"{shown}: {part.relative_to(found)}" if found.is_dir() else shown), part


def _rows(builder: Any, file: Path, name: str) -> Iterable[Row]:
    if builder.name == "parquet":
        return read_parquet(file, name)
    text = read_text(file.read_bytes(), name)
    if builder.name == "csv":
        return csv_rows(text, name, builder.config.sep)
    return any_json_rows(text, name)


def _check_options(config: Any, path: str) -> None:
    """Refuses options that a data set's README has for the readers of `datasets`."""
    plain = type(config)()
    known = {field.name for field in fields(_library().BuilderConfig)}
    known |= {"sep", "delimiter", "features"}
    for name in (field.name for field in fields(config)):
        if name not in known and getattr(config, name) != getattr(plain, name):
            raise InputError(
                f"{path}: its README sets {name!r} for reading its files, which is not supported: "
                "remove that line"
            )


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
