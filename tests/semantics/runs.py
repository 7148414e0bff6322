"""Sizes of the small runs of these tests, and what their store holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from storage.sql.catalog import Catalog
from storage.store import Store

N_TRAIN, N_HELDOUT, K = 6, 2, 3
ROOT = Path(__file__).parents[2]
KINDS = ["delete", "truncate", "flip"]


def snapshot(store: Path) -> dict[str, bytes]:
    return {str(p.relative_to(store)): p.read_bytes() for p in sorted(store.rglob("*.parquet"))}


def method_tables(store: Path) -> dict[str, bytes]:
    return {k: v for k, v in snapshot(store).items() if not k.startswith(("stages/", "runs/"))}


def ask(store: Path, sql: str) -> list[tuple[Any, ...]]:
    with Catalog(Store.open(str(store), create=False)) as catalog:
        return catalog.fetch(sql)


def files_of(store: Path) -> dict[str, bytes]:
    """Everything that a run is made of: tables, adapters, records."""
    skipped = ("_logs", "_locks", "_prefect", "_state", "_damaged")
    paths = (p for p in sorted(store.rglob("*")) if p.is_file())
    named = {p.relative_to(store).as_posix(): p for p in paths}
    return {k: p.read_bytes() for k, p in named.items() if not k.startswith(skipped)}


def tables(store: Path, where: str = "") -> dict[str, list[Any]]:
    """Rows of every table but executions, whatever part they stand in."""
    names = ("problems", "questions", "self_edits", "adapters", "answers", "scores")
    names += ("selections", "policies", "runs")
    return {name: sorted(ask(store, f"FROM {name} {where}"), key=str) for name in names}


def damage(path: Path, kind: str) -> None:
    data = path.read_bytes()
    middle = len(data) // 2
    if kind == "delete":
        path.unlink()
    elif kind == "truncate":
        path.write_bytes(data[:middle])
    else:
        path.write_bytes(data[:middle] + bytes([data[middle] ^ 4]) + data[middle + 1 :])
