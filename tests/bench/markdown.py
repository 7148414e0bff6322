"""Writes tables of Markdown, between markers on a page, and the lines about a machine."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from tests.bench import floor
from tests.bench.records import Record
from tests.bench.timing import number


def table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> list[str]:
    """Lines of a table."""
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(str(cell) for cell in line) + " |" for line in lines]


def machine_lines(data: Record) -> list[str]:
    """A list of what the figures were measured on."""
    rates = floor.Rates(**data["rates"])
    reached = (
        f"reached in this run: {number(rates.flops / 1e9)} GFLOP/s in a square product, "
        f"{number(rates.bytes / 1e9)} GB/s in a copy"
    )
    return ["", *[f"- {text}" for text in (*data["machine"].values(), reached)]]


def section(text: str, name: str) -> str:
    """What stands between a page's markers of that name.

    Raises:
        ValueError: The markers are not there.
    """
    found = re.search(rf"<!-- {name}:begin -->\n(.*?)<!-- {name}:end -->", text, re.DOTALL)
    if found is None:
        raise ValueError(f"the page has no part between <!-- {name}:begin --> and its end")
    return found[1]


def replaced(text: str, name: str, lines: Sequence[str]) -> str:
    """The page with these lines between the markers instead."""
    old = f"<!-- {name}:begin -->\n{section(text, name)}<!-- {name}:end -->"
    body = "\n".join(lines).strip("\n")
    return text.replace(old, f"<!-- {name}:begin -->\n\n{body}\n\n<!-- {name}:end -->")
