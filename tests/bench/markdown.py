"""Writes tables of Markdown, and the lines about a machine."""

from __future__ import annotations

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
