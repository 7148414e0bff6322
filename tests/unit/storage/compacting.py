"""A small run whose parts are compacted, and ways to look at it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from seal_core.fingerprint import digest
from seal_core.types import TableRef
from storage.runs.compaction import recover
from storage.runs.registry import register_run
from storage.sql.catalog import Catalog
from storage.store import Store
from storage.tables.schema import TABLES
from tests.unit.storage.rows import ANSWER, QUESTION, STAGE, many

N_PARTS = 5
RUN = "r"


def filled(root: str, run: str = RUN, n: int = N_PARTS) -> Store:
    store = Store.open(root)
    register_run(store, run, {"seed": 1}, 2)
    for i in range(n):
        write(store, i, run=run)
    return store


def answers(i: int, n: int | None = None) -> list[Any]:
    rows = [{"answer_id": f"a{i}-{j}", "correct": None} for j in range(i if n is None else n)]
    return many(ANSWER, rows)


def write(store: Store, i: int, rows: list[Any] | None = None, run: str = RUN) -> list[TableRef]:
    """The shard `i` of a round: parts of three tables, the first of no rows."""
    where = {"run": run, "round_index": 0}
    name = digest(["shard", i])
    return [
        store.write_part("answers", answers(i) if rows is None else rows, slot=f"e/{i}",
                         identity=name, **where),
        store.write_part("questions", many(QUESTION, [{"question_id": f"q{i}"}] * 2),
                         slot=f"q/{i}", identity=name, **where),
        store.append_part("stages", [replace(STAGE, shard=i, identity=name)], **where),
    ]  # fmt: skip


def refs(store: Store, run: str = RUN) -> list[TableRef]:
    return [ref for table in TABLES for ref in store.refs(table, run)]


def rows_of(store: Store) -> dict[str, list[str]]:
    return {t: sorted(map(str, store.rows(t))) for t in ("answers", "questions", "stages")}


def sql_of(catalog: Catalog) -> dict[str, list[str]]:
    return {t: sorted(map(str, catalog.fetch(f"FROM {t}"))) for t in TABLES}


def files_of(store: Store) -> set[str]:
    return {p for t in TABLES for p in store.files.glob(f"{t}/run=*/round=*/*.parquet")}


def settle(store: Store) -> None:
    said: list[str] = []
    recover(store, RUN, said.append)
    assert said == []


def damage(path: str, store: Store, place: float = 0.5) -> None:
    data = bytearray(store.files.read(path))
    data[int(len(data) * place)] ^= 4
    store.files.write(path, bytes(data))
