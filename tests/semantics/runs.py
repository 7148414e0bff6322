"""Sizes of the small runs of these tests, and what their store holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from storage.catalog import Catalog
from storage.store import Store

N_TRAIN, N_HELDOUT, K = 6, 2, 3
ROOT = Path(__file__).parents[2]


def snapshot(store: Path) -> dict[str, bytes]:
    return {str(p.relative_to(store)): p.read_bytes() for p in sorted(store.rglob("*.parquet"))}


def method_tables(store: Path) -> dict[str, bytes]:
    return {k: v for k, v in snapshot(store).items() if not k.startswith(("stages/", "runs/"))}


def ask(store: Path, sql: str) -> list[tuple[Any, ...]]:
    with Catalog(Store.open(str(store), create=False)) as catalog:
        return catalog.fetch(sql)
