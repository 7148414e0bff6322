"""Finds what an earlier execution of a shard made, if only how many units are wanted has changed.

Ids and seeds of units do not depend on how many there are: self-edit 0 of 5 is self-edit 0 of 10.
So a fork with more self-edits or repeats makes the new ones only, and takes the rows of the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from seal_core.errors import InputError, StoreError
from storage.runs.registry import get_run
from storage.store import Store
from storage.tables.paths import part_path, same_file
from tasks.caching.results import read_result
from tasks.context import RunContext
from tasks.work import ShardResult, Work

TOTALS = ("per_problem", "repeats")
"""Settings that say how many units are wanted, and nothing of any of them."""


@dataclass(frozen=True)
class Earlier:
    """Rows that were made before.

    Attributes:
        rows: Of the stage's table, without those that carry an error.
        given: Of the growing input; empty if there is none.
    """

    rows: tuple[Any, ...] = ()
    given: tuple[Any, ...] = ()


def without_totals(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What the ids and seeds of units are made from."""
    return {key: value for key, value in settings.items() if key not in TOTALS}


def find_earlier(context: RunContext, work: Work, growing: str | None = None) -> Earlier:
    """The rows that this shard had in the run, or in a run that it was forked from.

    Args:
        growing: Role of the input that has more rows where more units are wanted. Who calls has to
            compare its rows, since one of the same id may have been made again.
    """
    if not context.refresh:
        for run in lineage(context.store, context.name):
            found = _in_run(context.store, work, run, growing)
            if found is not None:
                return found
    return Earlier()


def lineage(store: Store, run: str | None) -> Iterator[str]:
    """A run, the run that it was forked from, and so on."""
    seen: set[str] = set()
    # A name that was removed may have been given to a fork of its own fork.
    while run is not None and run not in seen:
        seen.add(run)
        yield run
        try:
            run = get_run(store, run).parent_run
        except InputError:  # It was removed.
            return


def _in_run(store: Store, work: Work, run: str, growing: str | None) -> Earlier | None:
    path = part_path(work.table, run, work.round_index, work.slot)
    key = store.identity_of(path)
    if not key or key == work.key:  # The same work runs again only if it is to be made anew.
        return None
    try:
        result = ShardResult.from_json(read_result(store, key))
        if _family(result.identity, growing) != _family(work.identity, growing):
            return None
        ref = store.own_ref(result.ref(work.table), run, work.round_index, work.slot)
        if store.verify(ref):
            return None
        # A policy has no error: without it there is no next round.
        rows = tuple(row for row in store.read(ref) if getattr(row, "error", None) is None)
        return Earlier(rows, _given(store, work, result, run, growing))
    except (FileNotFoundError, StoreError, KeyError, TypeError, ValueError):
        return None  # Damaged or removed: all units are made, as in a new run.


def _family(identity: Mapping[str, Any], growing: str | None) -> dict[str, Any]:
    """What units have to have in common."""
    inputs = {role: value for role, value in identity["inputs"].items() if role != growing}
    settings = without_totals(identity["settings"])
    return {**identity, "settings": settings, "inputs": inputs}


def _given(
    store: Store, work: Work, result: ShardResult, run: str, growing: str | None
) -> tuple[Any, ...]:
    if growing is None or growing not in work.inputs:
        return ()
    found = [store.read_ref(ref.table, same_file(ref.path, run)) for ref in work.inputs[growing]]
    if [ref.content for ref in found] != result.identity["inputs"][growing]:
        raise StoreError(f"{work.label}: the rows that it was made from are not there any more")
    return tuple(row for ref in found for row in store.read(ref))
