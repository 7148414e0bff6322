"""Looks a shard up in the result records, and verifies every part and adapter of the result.

Verified are existence, digest and row count. `tasks.caching.records` gives Prefect what is whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from seal_core.errors import StoreError
from seal_core.types import TableRef
from storage.runs.history import restore_executions
from storage.store import Store
from storage.tables.paths import part_path, result_record
from storage.tables.store_rows import StageRow
from tasks.caching.results import RefusedResult, read_results
from tasks.work import ShardResult, Work


@dataclass(frozen=True)
class CacheEntry:
    """State of one shard.

    Attributes:
        result: A result that is whole, its refs in the run's own partition where it has them.
        damage: Why there is none, or what was wrong beside it and has another whole copy.
    """

    result: ShardResult | None = None
    damage: str | None = None


def look_up(store: Store, work: Work, run: str) -> CacheEntry:
    """Reads and verifies what is known of a shard."""
    try:
        results = [ShardResult.from_json(own) for own in read_results(store, work.key, run)]
        if any(result.key != work.key for result in results):
            return CacheEntry(damage=f"{result_record(work.key)}: another shard's record")
        result = next((own for own in results if _has(store, own, work, run)), results[0])
        found = [_locate(store, ref, work, run) for ref in result.refs]
    except FileNotFoundError:
        return CacheEntry(damage=_orphan(store, work, run))
    except RefusedResult:
        return CacheEntry()
    except StoreError as error:
        return CacheEntry(damage=str(error))
    except (KeyError, TypeError, ValueError) as error:
        path = result_record(work.key)
        return CacheEntry(damage=f"{path}: no result of a shard ({type(error).__name__})")
    refs = tuple(ref for ref, _ in found if ref is not None)
    damage = "; ".join(problem for _, problem in found if problem) or None
    if len(refs) < len(found):
        return CacheEntry(damage=damage)
    return CacheEntry(replace(result, refs=refs), damage)


def _has(store: Store, result: ShardResult, work: Work, run: str) -> bool:
    """Whether a run holds the rows of this result, and not of another one of the same key."""
    own = (store.own_ref(ref, run, work.round_index, work.slot) for ref in result.refs)
    return all(store.verify_rows(ref) is None for ref in own)


def restore_history(store: Store, results: Sequence[ShardResult], run: str) -> Iterator[str]:
    """Appends lost rows of executions that made a stage's cached results; says so."""
    made = [result.execution for result in results if result.execution]
    for index in sorted({item.round_index for item in made if item.run == run}):
        own = [item.row for item in made if (item.run, item.round_index) == (run, index)]
        if said := restore_executions(store, run, index, [StageRow(**row) for row in own]):
            yield said


def _locate(
    store: Store, ref: TableRef, work: Work, run: str
) -> tuple[TableRef | None, str | None]:
    """A whole copy of a part, the run's own if there is one; and what is wrong with that."""
    own = store.own_ref(ref, run, work.round_index, work.slot)
    problem = store.verify(own)
    if problem is None or own.path == ref.path:
        return (own if problem is None else None), problem
    damage = problem if store.files.exists(own.path) else None
    if (other := store.verify(ref)) is not None:
        return None, damage or other
    return ref, damage


def _orphan(store: Store, work: Work, run: str) -> str | None:
    """Parts without a record: it was deleted, or a kill came between the two."""
    path = part_path(work.table, run, work.round_index, work.slot)
    identity = store.identity_of(path)
    if identity == work.key:
        return f"{result_record(work.key)}: the record is missing beside {path}"
    if identity is None and store.files.exists(path):
        return f"{path}: the part is damaged"
    return None
