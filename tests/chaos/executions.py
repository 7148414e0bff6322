"""Reads the history of executions as a user would: from the `stages` table."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq

from storage.sql.catalog import Catalog
from storage.store import Store


class Execution(NamedTuple):
    """One execution of one shard."""

    label: str
    shard: int
    started_at: str
    pid: int
    error: str | None


def read_executions(store: Path) -> set[Execution]:
    """All executions in a store; a row that is there twice is an error."""
    sql = "SELECT label, shard, started_at, pid, error FROM stages"
    with Catalog(Store.open(str(store), create=False)) as catalog:
        rows = [Execution(*row) for row in catalog.fetch(sql)]
    assert len(set(rows)) == len(rows), "a row of `stages` is there twice"
    return set(rows)


def executed_in(store: Path, path: str) -> set[tuple[str, int]]:
    """Label and number of the shards in a file of `stages`; of other files none."""
    if not path.startswith("stages/"):
        return set()
    rows = pq.ParquetFile(store / path).read(["label", "shard"])
    return set(zip(*(column.to_pylist() for column in rows.columns), strict=True))
