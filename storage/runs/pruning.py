"""Removes weights that a run no longer needs; their rows stay, and say how to train them again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from seal_core.types import Adapter, TableRef
from storage.files.json_records import write_record
from storage.sql.catalog import Catalog
from storage.store import Store
from storage.weights import adapters as weights

Keep = Literal["all", "selected", "none"]


@dataclass(frozen=True)
class Pruned:
    """What a pruning found: adapters of self-edits of a run with weights in the store.

    Attributes:
        removed: Weights that were removed, or would be.
        kept: Weights that stay.
        shared: Those of them that stay only since another run, or a policy, has them too.
    """

    run: str
    removed: int
    kept: int
    shared: int


def prune_adapters(
    store: Store, run: str, keep: Keep, round_index: int | None = None, *, dry_run: bool = False
) -> Pruned:
    """Removes the weights of a run's self-edits; policies keep theirs.

    A removed adapter leaves a mark, so that its row still counts as whole. When a later stage
    needs the weights, its shard is trained again from the recorded seeds.

    Args:
        keep: `selected` keeps those of the self-edits that the filter kept.
        round_index: Only this partition; None for all.
    """
    rows = [row for index, row in store.rows("adapters", run) if round_index in (None, index)]
    by_rule: set[str | None] = set()
    if keep != "none":
        kept = {row.self_edit_id for _, row in store.rows("selections", run) if row.kept}
        by_rule = {row.uri for row in rows if keep == "all" or row.self_edit_id in kept}
    present = {row.uri: row for row in rows if row.uri and store.files.exists(row.uri)}
    with store.keeping_weights():
        shared = (present.keys() & _needed_elsewhere(store, run)) - by_rule
        doomed = present.keys() - by_rule - shared
        for uri in () if dry_run else sorted(doomed):
            # The mark first: after a kill between the two there is a whole adapter with a mark.
            mark = {"adapter_id": present[uri].adapter_id}
            write_record(store.files, weights.pruned_mark(uri), mark)
            weights.remove_adapter(store.files, uri)
    return Pruned(run, len(doomed), len(present) - len(doomed), len(shared))


def has_pruned(store: Store, ref: TableRef) -> bool:
    """Whether weights of an `adapters` part were removed on purpose."""
    return any(is_pruned(store, row) for row in store.read(ref))


def is_pruned(store: Store, row: Adapter) -> bool:
    """Whether an adapter's weights were removed on purpose."""
    return row.uri is not None and weights.is_pruned(store.files, row.uri)


def _needed_elsewhere(store: Store, run: str) -> set[str]:
    """Weights that other runs share, and those of policies."""
    with Catalog(store) as catalog:
        rows = catalog.fetch(
            """SELECT DISTINCT uri FROM adapters WHERE run <> $run AND uri IS NOT NULL
            UNION SELECT uri FROM policies WHERE uri IS NOT NULL""",
            run=run,
        )
    return {row[0] for row in rows}
