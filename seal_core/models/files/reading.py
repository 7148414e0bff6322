"""Reads a user's model files: whatever a library raises on them becomes one line with a fix."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from seal_core.errors import InputError, SealError, in_one_line

_TEXTS = ("*.json", "*.jinja", "*/*.jinja", "*.txt")
_A_SENTENCE = 8
"""Words of a message that says enough without the name of its class."""


@contextmanager
def reading(
    what: str, path: str, fix: str, config: Mapping[str, Any] | None = None
) -> Iterator[None]:
    """Inside, libraries read a user's files, and may raise anything on what they find there.

    Args:
        what: Is read, of the model at `path`.
        fix: What to do about a failure.
        config: The model's, in which the cause is looked for.

    Raises:
        InputError: The library failed.
    """
    try:
        yield
    except (SealError, MemoryError):
        raise
    except Exception as error:
        reason = _words(error)
        if setting := _unknown_value(error, config or {}):
            reason, fix = setting, "correct it, or use another model"
        if isinstance(error, ImportError):
            fix = "install what it names, or take out the setting that asks for it"
        if isinstance(error, UnicodeDecodeError) and (name := _not_utf8(Path(path))):
            reason, fix = f"its {name} is not UTF-8", "save that file as UTF-8"
        raise InputError(f"cannot load {what} of {path}: {reason.rstrip('.')}; {fix}") from error


def json_object(file: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        InputError: It holds something else, or cannot be read.
    """
    try:
        plain = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file} is not JSON: {error}; copy it again") from error
    if not isinstance(plain, dict):
        raise InputError(f"{file} is no JSON object: copy it again, or save the model again")
    return plain


def _unknown_value(error: Exception, config: Mapping[str, Any]) -> str | None:
    """Which setting a library looked up in vain; None if that is not what happened."""
    if not isinstance(error, KeyError) or not error.args:
        return None
    places = [config, *(part for part in config.values() if isinstance(part, Mapping))]
    for name, value in (item for place in places for item in place.items()):
        if value == error.args[0]:
            library = f"transformers {version('transformers')}"
            return f"its config.json has {name} = {value!r}, which {library} does not know"
    return None


def _not_utf8(folder: Path) -> str | None:
    """The file that a library, which names none, could not decode."""
    for file in sorted(file for pattern in _TEXTS for file in folder.glob(pattern)):
        try:
            file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            return str(file.relative_to(folder))
    return None


def _words(error: Exception) -> str:
    text = in_one_line(error)
    terse = len(text.split()) < _A_SENTENCE
    return f"{type(error).__name__}: {text}" if terse else text
