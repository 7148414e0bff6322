"""Reads the end of a child's log for the message of an error."""

from __future__ import annotations

import re
from pathlib import Path

_TAIL_LINES = 12
_TAIL_BYTES = 8192
_CAUSE_BYTES = 1 << 17
_CAUSE_LINES = 4
_CAUSE = re.compile(r"\b(?:\w+\.)*\w*(?:Error|Exception|Interrupt): .+")


def log_tail(path: Path) -> str:
    """The last lines of a log, as the end of a message."""
    try:
        lines = _last_lines(path, _TAIL_BYTES)[-_TAIL_LINES:]
    except OSError as error:
        return f"; its log cannot be read: {error}"
    return "\n".join([f"; the end of {path}:", *lines]) if lines else ""


def log_causes(path: Path) -> str:
    """The errors that a log names last, as the end of a message; its last lines if none.

    A server of several processes writes its shutdown behind the error that caused it, so the
    last lines alone often do not tell what happened.
    """
    try:
        lines = _last_lines(path, _CAUSE_BYTES)
    except OSError as error:
        return f"; its log cannot be read: {error}"
    found = [match[0] for line in lines if (match := _CAUSE.search(line))]
    causes = list(dict.fromkeys(found))[-_CAUSE_LINES:]
    return "\n".join([f"; it wrote to {path}:", *causes]) if causes else log_tail(path)


def _last_lines(path: Path, n_bytes: int) -> list[str]:
    with path.open("rb") as log:
        log.seek(max(0, path.stat().st_size - n_bytes))
        return log.read().decode(errors="replace").splitlines()
