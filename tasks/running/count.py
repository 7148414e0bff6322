"""Counts the stages of a run, with their shards; needs its config, and no work of its stages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from seal_core.stages import Handle, Place
from seal_core.types import Split
from tasks.running.interpreter import Interpreter, Works
from tasks.work import Stage


@dataclass(frozen=True)
class CountedStage:
    """One stage of a run; `label` is as the user sees it, e.g. `finetune heldout round_0`."""

    stage: str
    label: str
    round_index: int
    shards: int


class Count(Interpreter):
    """Collects the stages of a run in their order.

    Args:
        splits: Shards of problems of each split.
    """

    def __init__(self, splits: Mapping[Split, int]) -> None:
        self._splits = splits
        self.stages: list[CountedStage] = []

    @property
    def by_stage(self) -> Counter[str]:
        """Shards of the whole run by stage."""
        counts: Counter[str] = Counter()
        for stage in self.stages:
            counts[stage.stage] += stage.shards
        return counts

    def problems(self, split: Split) -> Handle:
        """See `Stages`."""
        return Handle(split, self._splits[split])

    def base_policy(self) -> Handle:
        """See `Stages`."""
        return Handle("base policy", 1)

    def _stage(
        self, stage: Stage, at: Place, shards: int, works: Works, weights: Handle | None = None
    ) -> Handle:
        label = f"{stage.name} {at.label}"
        self.stages.append(CountedStage(stage.name, label, at.round_index, shards))
        return Handle(label, shards)
