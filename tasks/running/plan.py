"""Plans a run: which of its shards are done, and why the others would run; runs nothing.

The works are built as for a run. A shard that is not in the cache gives a result whose parts are
marked as pending; what depends on it is planned as work too, and waits for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from seal_core.errors import StoreError
from seal_core.stages import Handle, Place
from seal_core.types import CONTROL_ROUND, TableRef
from storage.store import Store
from storage.tables.paths import part_path
from tasks.basis import Made
from tasks.caching.cache import CacheEntry, look_up
from tasks.caching.results import read_result
from tasks.opening.preflight import Preflight
from tasks.running.count import CountedStage
from tasks.running.interpreter import Builder, Works
from tasks.work import ShardResult, Stage, Work

_PENDING = "pending:"
_MAX_REASONS = 6


@dataclass(frozen=True)
class PlannedStage(CountedStage):
    """What would become of one stage.

    Attributes:
        cached: Of its shards, those that are in the store and whole.
        reasons: Why the others run, each once.
    """

    cached: int
    reasons: tuple[str, ...]


class Plan(Builder):
    """Collects the plan of a run, stage by stage; writes nothing.

    Args:
        compare: Runs whose earlier work tells what changed, the first that has some counts.

    Attributes:
        damaged: Shards that run again since something of theirs is damaged. What follows from them
            is planned as well, but stays cached if their rows come out as they were.
    """

    def __init__(
        self, store: Store, checked: Preflight, shard_size: int, compare: Sequence[str]
    ) -> None:
        super().__init__(checked, shard_size)
        self._store, self._compare = store, compare
        self._awaited: set[str] = set()
        self._unwritten: dict[str, Sequence[Any]] = {}
        self.damaged = 0
        self.stages: list[PlannedStage] = []

    def _put(self, table: str, rows: Sequence[Any], slot: str) -> TableRef:
        run = self._checked.name
        ref = self._store.write_part(
            table, rows, run=run, round_index=CONTROL_ROUND, slot=slot, write=False
        )
        self._unwritten[ref.path] = rows
        return ref

    def _told(self, ref: TableRef, tell: Callable[[list[Any]], Any]) -> Any:
        if _is_pending(ref):
            self._awaited.add(ref.path)
            return ref.content
        return tell(list(self._unwritten.get(ref.path) or self._store.read(ref)))

    def _stage(
        self, stage: Stage, at: Place, shards: int, works: Works, weights: Handle | None = None
    ) -> Made:
        self._awaited.clear()
        built = works(self._basis)
        entries = [look_up(self._store, work, self._checked.name) for work in built]
        results = [
            entry.result or _pending(work) for work, entry in zip(built, entries, strict=True)
        ]
        reasons = [
            reason
            for work, entry in zip(built, entries, strict=True)
            if entry.result is None
            for reason in self._why(work, entry)
        ]
        label, cached = (
            f"{stage.name} {at.label}",
            sum(entry.result is not None for entry in entries),
        )
        self.stages.append(
            PlannedStage(
                stage.name, label, at.round_index, len(built), cached, tuple(dict.fromkeys(reasons))
            )
        )
        return Made(label, len(built), results, tuple(built))

    def _why(self, work: Work, entry: CacheEntry) -> list[str]:
        if entry.damage:
            self.damaged += 1
            return [entry.damage]
        pending = {r.path for group in work.inputs.values() for r in group if _is_pending(r)}
        reasons = [f"after {label}" for label in sorted(pending | self._awaited)]
        before = self._before(work)
        changes = [] if before is None else _changes(before, work.identity)
        return [*changes, *reasons] or ["not done yet"]

    def _before(self, work: Work) -> dict[str, Any] | None:
        """Identity of the work that filled this slot before, in the first run that has it."""
        for run in self._compare:
            path = part_path(work.table, run, work.round_index, work.slot)
            key = self._store.identity_of(path)
            if key:
                try:
                    return ShardResult.from_json(read_result(self._store, key)).identity
                except (FileNotFoundError, StoreError):
                    continue
        return None


def _is_pending(ref: TableRef) -> bool:
    return ref.content.startswith(_PENDING)


def _pending(work: Work) -> ShardResult:
    """What stands for a result that is yet to be made; the path says which stage makes it."""
    mark = _PENDING + work.key
    return ShardResult((TableRef(work.table, work.label, mark, 0, mark),), 0, 0, work.key)


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Fields of an identity that differ, as `key: old -> new`; inputs and digests by name only."""
    old, new = _leaves(before), _leaves(now)
    found = []
    for key in sorted(old.keys() | new.keys()):
        a, b = old.get(key, "(not set)"), new.get(key, "(not set)")
        if a == b or _PENDING in str(b):
            continue
        short = key.startswith(("inputs.", "model")) or max(len(str(a)), len(str(b))) > 60
        found.append(f"{key} changed" if short else f"{key}: {a} -> {b}")
    if len(found) > _MAX_REASONS:
        found[_MAX_REASONS:] = [f"and {len(found) - _MAX_REASONS} more fields"]
    return found


def _leaves(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {prefix: value}
    found: dict[str, Any] = {}
    for key, item in value.items():
        found.update(_leaves(item, f"{prefix}.{key}" if prefix else key))
    return found
