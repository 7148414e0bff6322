"""Finds out what a run would do, and why, by walking through it without running any shard.

In a plan the stages build their work as ever, but no task runs. A shard that is not in the cache
gives a pending result; what depends on it must wait, and is planned as work too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from seal_core.errors import StoreError
from seal_core.types import Policy, TableRef
from storage.store import Store
from tasks.cache import CacheEntry
from tasks.results import read_result
from tasks.work import ShardResult, Work

PENDING = "pending:"
_MAX_REASONS = 6


@dataclass(frozen=True)
class PlannedStage:
    """What would become of one stage.

    Attributes:
        shards: In all; `cached` of them are in the store and whole.
        reasons: Why the others run, each once.
    """

    stage: str
    label: str
    round_index: int
    shards: int
    cached: int
    reasons: tuple[str, ...]


@dataclass
class Planner:
    """Collects the plan of a run, stage by stage.

    Attributes:
        compare: Runs whose earlier work tells what changed, the first that has some counts.
        damaged: Shards that run again since something of theirs is damaged. What follows from them
            is planned as well, but stays cached if their rows come out as they were.
    """

    compare: Sequence[str] = ()
    damaged: int = 0
    stages: list[PlannedStage] = field(default_factory=list)

    def plan(
        self, store: Store, works: Sequence[Work], entries: Sequence[CacheEntry]
    ) -> list[ShardResult]:
        """Notes a stage, and gives what its shards would return."""
        results, reasons = [], []
        for work, entry in zip(works, entries, strict=True):
            if entry.result is not None:
                results.append(entry.result)
            else:
                results.append(_pending(work))
                reasons += self._why(store, work, entry)
        if works:
            self.stages.append(
                PlannedStage(
                    stage=works[0].stage,
                    label=works[0].label,
                    round_index=works[0].round_index,
                    shards=len(works),
                    cached=sum(entry.result is not None for entry in entries),
                    reasons=tuple(dict.fromkeys(reasons)),
                )
            )
        return results

    def _why(self, store: Store, work: Work, entry: CacheEntry) -> list[str]:
        if entry.damage:
            self.damaged += 1
            return [entry.damage]
        waits = sorted({_label(ref) for group in work.inputs.values() for ref in group} - {""})
        reasons = [f"after {label}" for label in waits]
        before = self._before(store, work)
        if before is None:
            return reasons or ["not done yet"]
        return [*_changes(before, work.identity), *reasons] or ["not done yet"]

    def _before(self, store: Store, work: Work) -> dict[str, Any] | None:
        """Identity of the work that filled this slot before, in the first run that has it."""
        for run in self.compare:
            path = store.part_path(work.outputs[0], run, work.round_index, work.slot)
            key = store.identity_of(path)
            if key:
                try:
                    return ShardResult.from_json(read_result(store, key)).identity
                except (FileNotFoundError, StoreError):
                    continue
        return None


def is_pending(ref: TableRef) -> bool:
    """Whether a part is yet to be made."""
    return ref.sha256.startswith(PENDING)


def pending_policy(ref: TableRef) -> Policy:
    """Stands for a policy that is yet to be trained."""
    return Policy(ref.sha256, None, "", "", None, None, 0, 0, None)


def _pending(work: Work) -> ShardResult:
    refs = tuple(
        TableRef(table, work.label, PENDING + work.key, 0, PENDING + work.key)
        for table in work.outputs
    )
    return ShardResult(refs, 0, 0, work.key, work.identity)


def _label(ref: TableRef) -> str:
    """The stage that a pending part waits for."""
    return ref.path if is_pending(ref) else ""


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Fields of an identity that differ, as `key: old -> new`; inputs and digests by name only."""
    old, new = _leaves(before), _leaves(now)
    found = []
    for key in sorted(old.keys() | new.keys()):
        a, b = old.get(key, "(not set)"), new.get(key, "(not set)")
        if a == b or PENDING in str(b):
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
