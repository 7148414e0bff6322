"""Paths that users give: any name is fine, and libraries that read patterns see plain ones."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from seal_core.errors import InputError

_SPECIAL = frozenset("=*?[]{}$~:\\\n")
"""In a path, these are more than a name to DuckDB or fsspec: columns, patterns, variables."""


def user_path(text: str | os.PathLike[str]) -> Path:
    """The file or folder that a user named; `~` at the start is the home folder.

    Raises:
        InputError: its path is not UTF-8, which safetensors and the records of a run need.
    """
    # Unlike Path's own, this takes `~name` as it is where there is no such user.
    path = os.path.expanduser(text)
    try:
        os.path.abspath(path).encode()
    except UnicodeEncodeError:
        raise InputError(
            f"{os.path.abspath(path)!r}: the path is not UTF-8: give the file or folder another "
            "name, or put it elsewhere"
        ) from None
    return Path(path)


@contextmanager
def plain_alias(path: Path, name: str) -> Iterator[Path]:
    """The file or folder under this name, with no special character in the path to it.

    Files are links. Folders are not, since a library may ask where a link leads.

    Raises:
        InputError: see `check_plain`; or a name in the folder is more than a name to fsspec.
    """
    with tempfile.TemporaryDirectory(prefix="seal-alias-") as room:
        alias = Path(room) / name
        check_plain(alias)
        _link(path.absolute(), alias)
        yield alias


def _link(source: Path, alias: Path) -> None:
    if not source.is_dir():
        alias.symlink_to(source)
        return
    alias.mkdir()
    for entry in source.iterdir():
        # Such files would be left out without a word, or looked for elsewhere.
        if "::" in entry.name or "\n" in entry.name or os.path.expandvars(entry.name) != entry.name:
            raise InputError(f"{str(entry)!r}: `datasets` cannot read this name: rename it")
        if entry.is_symlink():
            (alias / entry.name).symlink_to(entry)
        else:
            _link(entry, alias / entry.name)


def check_plain(path: Path) -> None:
    """Passes if libraries take a path in the folder for temporary files for nothing but a path.

    Raises:
        InputError: it has a character that is more to them.
    """
    if _SPECIAL & set(str(path)):
        raise InputError(
            f"temporary files go to {tempfile.gettempdir()}: set TMPDIR to a folder without "
            f"= * ? [ ] {{ }} $ ~ : or a backslash in its path"
        )
