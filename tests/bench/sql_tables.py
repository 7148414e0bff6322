"""The SQL part of the report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tests.bench.markdown import table
from tests.bench.records import Record
from tests.bench.timing import Spread, number

BARS = {"rewards_by_round": 1.0, "best_edits": 2.0}
"""Seconds that the project asks for, at most; and of memory, 2 GiB."""


def sql_lines(data: Record) -> list[str]:
    """Lines of Markdown."""
    machine = [f"- {text}" for key, text in data["machine"].items() if key != "threads"]
    lines = ["", *machine, ""]
    for title, rows in (
        ("### The stores", _stores(data)),
        ("### Named views, seconds until all rows are there", _views(data)),
        ("### As typed, from the start of the process to the table", _typed(data)),
        ("### Opening a catalog and counting every table", _opening(data)),
    ):
        lines += [title, "", *rows, ""]
    (records,) = _of(data, "records")
    lines.append(
        f"{records['n']} records of results, which a run that is started again reads and checks, "
        f"take {number(records['wall'])} s: they are left as they are."
    )
    return lines


def _stores(data: Record) -> list[str]:
    rows = []
    for item in _of(data, "store"):
        took = item["compaction"]
        spent = f"{took['wall']:.0f} ({took['cpu']:.0f} CPU s)" if took else ""
        rows.append((item["store"], item["files"], f"{item['bytes'] / 1e6:.0f}", spent))
    return table(("store", "files of rows", "MB", "s to compact"), rows)


def _views(data: Record) -> list[str]:
    stores = list(dict.fromkeys(item["store"] for item in _of(data, "view")))
    found = {(item["store"], item["name"]): item["samples"] for item in _of(data, "view")}
    rows = []
    for name in dict.fromkeys(name for _, name in found):
        cells = [_cells(found.get((store, name))) for store in stores]
        bar = BARS.get(name)
        rows.append((f"`{name}`", *[c for cell in cells for c in cell], bar if bar else ""))
    heads = [f"{store}, {what}" for store in stores for what in ("s", "CPU s", "peak GiB")]
    return table(("view", *heads, "at most, s"), rows)


def _typed(data: Record) -> list[str]:
    rows = [(f"`{item['name']}`", *_cells(item["samples"])) for item in _of(data, "typed")]
    return table(("command", "s", "CPU s", "peak GiB"), rows)


def _opening(data: Record) -> list[str]:
    rows = [(item["store"], *_cells(item["samples"])) for item in _of(data, "opening")]
    return table(("store", "s", "CPU s", "peak GiB"), rows)


def _cells(samples: Sequence[Record] | None) -> tuple[str, str, str]:
    if samples is None:
        return "", "", ""
    walls, cpus = (Spread.of([sample[clock] for sample in samples]) for clock in ("wall", "cpu"))
    peak = max(sample["peak"] for sample in samples) / 2**30
    return str(walls), number(cpus.median), f"{peak:.2f}"


def _of(data: Record, section: str) -> Iterator[Record]:
    return (item for item in data["records"] if item["section"] == section)
