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
    """A link of this name to a file or folder, with no special character in its path.

    Raises:
        InputError: see `check_plain`.
    """
    with tempfile.TemporaryDirectory(prefix="seal-alias-") as room:
        alias = Path(room) / name
        check_plain(alias)
        alias.symlink_to(path.absolute())
        yield alias


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
