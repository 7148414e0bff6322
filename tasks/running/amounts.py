"""Counts what a run makes: self-edits, adapters and answers; needs its config and problems."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import cast, get_args

from seal_core.domains.base import ProblemSet
from seal_core.stages import Handle, Place
from seal_core.types import Split
from tasks.running.count import Count


@dataclass(frozen=True)
class Amount(Handle):
    """A handle of so many units; a shard is one problem here."""

    units: int = 0


class Amounts(Count):
    """Collects units by stage, and adapters by round."""

    def __init__(self, problems: ProblemSet) -> None:
        of = {"train": problems.train, "heldout": problems.heldout}
        splits: dict[Split, int] = {split: len(of[split]) for split in get_args(Split)}
        super().__init__(splits)
        self._questions = {
            split: sum(len(problem.questions) for problem in of[split]) / max(splits[split], 1)
            for split in get_args(Split)
        }
        self.units: Counter[str] = Counter()
        self.adapters: Counter[int] = Counter()

    def sample(self, problems: Handle, policy: Handle, at: Place, per_problem: int) -> Handle:
        """See `Stages`."""
        done = super().sample(problems, policy, at, per_problem)
        self.units["sample"] += problems.shards * per_problem
        return Amount(done.label, done.shards, problems.shards * per_problem)

    def passages(self, problems: Handle, policy: Handle, at: Place) -> Handle:
        """See `Stages`."""
        done = super().passages(problems, policy, at)
        return Amount(done.label, done.shards, problems.shards)

    def copies(self, problems: Handle, policy: Handle, edits: Handle, at: Place) -> Handle:
        """See `Stages`."""
        done = super().copies(problems, policy, edits, at)
        return Amount(done.label, done.shards, cast(Amount, edits).units)

    def finetune(
        self,
        problems: Handle,
        policy: Handle,
        edits: Handle,
        at: Place,
        repeats: int,
        match: tuple[Handle, Handle] | None = None,
    ) -> Handle:
        """See `Stages`."""
        done = super().finetune(problems, policy, edits, at, repeats, match)
        units = cast(Amount, edits).units * repeats
        self.units["finetune"] += units
        self.adapters[at.round_index] += units
        return Amount(done.label, done.shards, units)

    def evaluate(
        self, problems: Handle, policy: Handle, at: Place, adapters: Handle | None = None
    ) -> Handle:
        """See `Stages`."""
        asked = problems.shards if adapters is None else cast(Amount, adapters).units
        self.units["evaluate"] += round(asked * self._questions[cast(Split, problems.label)])
        return super().evaluate(problems, policy, at, adapters)

    def update(
        self,
        problems: Handle,
        policy: Handle,
        edits: Handle,
        scores: Handle,
        selected: Handle,
        at: Place,
    ) -> Handle:
        """See `Stages`."""
        self.units["update"] += 1
        return super().update(problems, policy, edits, scores, selected, at)
