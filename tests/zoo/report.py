"""Writes the table of all types into docs/models.md, between markers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch

from tests.bench.markdown import replaced, table
from tests.bench.records import machine
from tests.zoo.examine import FAST, PLAIN, REFUSED, TRACEBACK, UNBUILT, WRONG, Row

NAME = "zoo"
"""Of the markers around the table."""

_WIDTH = 160
_DECODERS = (
    "Types with a switch `is_decoder` (`bert`, `roberta` and other encoders) are built as "
    "decoders, with it on. An encoder as published has it off, looks ahead, and is refused."
)


def write(path: Path, rows: Sequence[Row]) -> None:
    """Replaces the page's table.

    Raises:
        ValueError: The page has no markers for it.
    """
    path.write_text(replaced(path.read_text("utf-8"), NAME, lines(rows)), "utf-8")


def lines(rows: Sequence[Row]) -> list[str]:
    """Counts, the machine, the table, and what could not be built."""
    about = machine(torch.device("cpu"), torch.get_num_threads())
    built = [row for row in rows if row.state != UNBUILT]
    unbuilt = [row for row in rows if row.state == UNBUILT]
    cells = [(f"`{r.name}`", r.state, r.answers, r.training, _cell(r.why)) for r in built]
    return [
        f"{counts(rows)}.",
        "",
        f"Measured with {about['versions']} on {about['device']}, {about['cores']}.",
        "",
        _DECODERS,
        "",
        *table(("type", "verdict", "answers", "training", "why not faster, or not at all"), cells),
        "",
        "Not built, and so not judged:",
        "",
        *table(("type", "why"), [(f"`{row.name}`", _cell(row.why)) for row in unbuilt]),
    ]


def counts(rows: Sequence[Row]) -> str:
    """How many types came out how."""
    found = Counter(row.state for row in rows)
    return (
        f"{len(rows)} types: {found[FAST]} fast, {found[PLAIN]} plain, {found[REFUSED]} refused, "
        f"{found[UNBUILT]} not built; {found[WRONG]} silently wrong, {found[TRACEBACK]} tracebacks"
    )


def _cell(text: str) -> str:
    """Text that stays in its cell, cut where it is long."""
    short = text if len(text) <= _WIDTH else text[: _WIDTH - 2].rstrip() + " …"
    return short.replace("|", "\\|").replace("<", "&lt;")
