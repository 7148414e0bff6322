"""Checks, before torch is imported, what is asked for when a GGUF is to be converted."""

from __future__ import annotations

from pathlib import Path

from seal_core.errors import InputError

_DTYPES = ("float32", "bfloat16", "float16")


def check_conversion(source: Path, out: Path, dtype: str) -> Path:
    """The GGUF: the file itself, or the only one in a folder.

    Raises:
        InputError: There is none, or more than one; `out` holds something; or there is no such
            dtype.
    """
    if out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir()))):
        raise InputError(f"{out}: exists and is not an empty folder; choose another OUT")
    if dtype not in _DTYPES:
        raise InputError(f"{dtype!r} is no dtype: use {', '.join(_DTYPES[:-1])} or {_DTYPES[-1]}")
    file = _find_gguf(source)
    try:
        with file.open("rb") as stream:
            begins = stream.read(4)
    except OSError as error:
        raise InputError(f"cannot read {file}: {error}") from error
    if begins != b"GGUF":
        raise InputError(f"{file} is no GGUF: it does not begin with the letters GGUF")
    return file


def _find_gguf(path: Path) -> Path:
    if path.is_file():
        return path
    if not path.is_dir():
        raise InputError(f"{path}: no such file or folder; give a GGUF, or a folder that holds one")
    found = sorted(path.glob("*.gguf"))
    if not found:
        raise InputError(f"folder {path} holds no .gguf file: give the GGUF's own path")
    if len(found) > 1:
        names = ", ".join(file.name for file in found)
        raise InputError(f"folder {path} holds several GGUFs ({names}): give the path of one")
    return found[0]
