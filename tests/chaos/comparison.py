"""Compares the tables of two stores row for row: what is lost, doubled, changed or too much."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage.sql.catalog import Catalog
from storage.store import Store
from storage.tables.schema import TABLES

METHOD = tuple(name for name in TABLES if name not in ("runs", "stages"))
"""All tables whose rows follow from config, data and model; the others hold times."""

Row = Mapping[str, Any]
Tables = Mapping[str, Sequence[Row]]

_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Difference:
    """What one store has otherwise than the undisturbed one, each as `table key`."""

    lost: tuple[str, ...] = ()
    doubled: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    strange: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.lost or self.doubled or self.changed or self.strange)


def read_tables(store: Path) -> dict[str, list[dict[str, Any]]]:
    """All rows of the method's tables, with their run and round."""
    with Catalog(Store.open(str(store), create=False)) as catalog:
        return {name: catalog.records(f'SELECT * FROM "{name}"') for name in METHOD}


def compare(expected: Tables, found: Tables, approximate: Collection[str] = ()) -> Difference:
    """The rows of `found` against those of `expected`.

    Args:
        approximate: Columns that may differ by rounding. vLLM's log-probabilities depend on
            what else is in the batch.
    """
    lost, doubled, changed, strange = [], [], [], []
    for table in expected.keys() | found.keys():
        right, mine = _by_key(table, expected.get(table, ())), _by_key(table, found.get(table, ()))
        for key in sorted(right.keys() | mine.keys()):
            name = f"{table} {' '.join(key)}"
            lost += [name] * max(len(right[key]) - len(mine[key]), 0)
            if not right[key]:
                strange.append(name)
            elif len(mine[key]) > len(right[key]):
                doubled.append(name)
            elif mine[key] and not _equal(right[key], mine[key], approximate):
                changed.append(name)
    return Difference(tuple(lost), tuple(doubled), tuple(changed), tuple(strange))


def adapter_files(store: Path) -> dict[str, bytes]:
    """Files of all adapters, by path."""
    folder = store / "_adapters"
    return {
        path.relative_to(store).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.parts[-3:])
    }


def _by_key(table: str, rows: Sequence[Row]) -> defaultdict[tuple[str, ...], list[Row]]:
    groups: defaultdict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        columns = ("run", "round", *TABLES[table].key)
        groups[tuple(str(row[column]) for column in columns)].append(row)
    return groups


def _equal(right: Sequence[Row], mine: Sequence[Row], approximate: Collection[str]) -> bool:
    """Whether groups with one key hold equal rows, whatever their order."""
    order = lambda row: str(sorted((k, v) for k, v in row.items() if k not in approximate))  # noqa: E731
    pairs = zip(sorted(right, key=order), sorted(mine, key=order), strict=True)
    return all(_equal_rows(a, b, approximate) for a, b in pairs)


def _equal_rows(a: Row, b: Row, approximate: Collection[str]) -> bool:
    return a.keys() == b.keys() and all(
        _equal_cells(a[name], b[name], name in approximate) for name in a
    )


def _equal_cells(a: Any, b: Any, approximate: bool) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        if math.isnan(a) and math.isnan(b):
            return True
        if approximate:
            return math.isclose(a, b, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)
    return type(a) is type(b) and a == b
