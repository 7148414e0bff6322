"""The stages that the algorithm calls, with their works; what becomes of them, subclasses say."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, get_args

from seal_core.stages import Handle, Place
from seal_core.types import Problem, Split, TableRef
from storage.tables.store_rows import problem_rows, question_rows
from tasks.basis import Basis, Made
from tasks.opening.preflight import Preflight
from tasks.stages.evaluate import EVALUATE, evaluate_works
from tasks.stages.finetune import FINETUNE, finetune_works
from tasks.stages.policies import base_row
from tasks.stages.sample import SAMPLE, copy_works, passage_works, sample_works
from tasks.stages.score import SCORE, score_works
from tasks.stages.select import FILTER, filter_works
from tasks.stages.update import UPDATE, update_works
from tasks.work import ShardResult, Stage, Work

Works = Callable[[Basis], list[Work]]


def declared() -> dict[str, Stage]:
    """All stages, by name; here, since their modules are imported here."""
    return Stage.all()


class Interpreter(ABC):
    """Implements `seal_core.stages.Stages` over one method, `_stage`, and what a run is given."""

    @abstractmethod
    def problems(self, split: Split) -> Handle:
        """See `Stages`."""

    @abstractmethod
    def base_policy(self) -> Handle:
        """See `Stages`."""

    @abstractmethod
    def _stage(
        self, stage: Stage, at: Place, shards: int, works: Works, weights: Handle | None = None
    ) -> Handle:
        """What becomes of a stage.

        Args:
            works: Builds its works, as many as `shards`; to be called only if they are wanted.
            weights: Adapters whose weights the stage loads.
        """

    def retain(self, round_index: int) -> None:  # noqa: B027
        """See `Stages`; only a run has weights to remove."""

    def sample(self, problems: Handle, policy: Handle, at: Place, per_problem: int) -> Handle:
        """See `Stages`."""
        return self._stage(
            SAMPLE,
            at,
            problems.shards,
            lambda b: sample_works(b, problems, policy, at, per_problem),
        )

    def passages(self, problems: Handle, policy: Handle, at: Place) -> Handle:
        """See `Stages`."""
        return self._stage(
            SAMPLE, at, problems.shards, lambda b: passage_works(b, problems, policy, at)
        )

    def copies(self, problems: Handle, policy: Handle, edits: Handle, at: Place) -> Handle:
        """See `Stages`."""
        return self._stage(
            SAMPLE, at, problems.shards, lambda b: copy_works(b, problems, policy, edits, at)
        )

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
        return self._stage(
            FINETUNE,
            at,
            problems.shards,
            lambda b: finetune_works(b, problems, policy, edits, at, repeats, match),
        )

    def evaluate(
        self, problems: Handle, policy: Handle, at: Place, adapters: Handle | None = None
    ) -> Handle:
        """See `Stages`."""
        return self._stage(
            EVALUATE,
            at,
            problems.shards,
            lambda b: evaluate_works(b, problems, policy, at, adapters),
            adapters,
        )

    def score(self, edits: Handle, answers: Handle, baseline: Handle, at: Place) -> Handle:
        """See `Stages`."""
        return self._stage(SCORE, at, 1, lambda b: score_works(b, edits, answers, baseline, at))

    def select(self, scores: Handle, at: Place) -> Handle:
        """See `Stages`."""
        return self._stage(FILTER, at, 1, lambda b: filter_works(b, scores, at))

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
        return self._stage(
            UPDATE, at, 1, lambda b: update_works(b, problems, policy, edits, scores, selected, at)
        )


class Builder(Interpreter):
    """What a run and its plan have in common: the works, and the parts that a run is given.

    Args:
        shard_size: Problems per shard.
    """

    def __init__(self, checked: Preflight, shard_size: int) -> None:
        self._checked, self._shard_size = checked, shard_size
        self._basis = Basis(checked.config, checked.model_digest, self._told)
        self._splits: dict[Split, Made] = {}

    @abstractmethod
    def _told(self, ref: TableRef, tell: Callable[[list[Any]], Any]) -> Any:
        """See `Basis.told`."""

    @abstractmethod
    def _put(self, table: str, rows: Sequence[Any], slot: str) -> TableRef:
        """The part of what a run is given, and does not make."""

    def problems(self, split: Split) -> Made:
        """See `Stages`; the shards are cut once, and every later stage follows them."""
        if split not in self._splits:
            found, size = self._checked.problems, self._shard_size
            problems = found.train if split == "train" else found.heldout
            groups = [problems[i : i + size] for i in range(0, len(problems), size)]
            results = [self._shard(f"{split}/{i}", group) for i, group in enumerate(groups)]
            self._splits[split] = Made(split, len(groups), results)
        return self._splits[split]

    @property
    def splits(self) -> dict[Split, int]:
        """Shards of problems of each split."""
        return {split: self.problems(split).shards for split in get_args(Split)}

    def base_policy(self) -> Made:
        """See `Stages`."""
        row = base_row(self._checked.config.model.path, self._checked.model_digest)
        return given("base policy", self._put("policies", [row], "base policy"))

    def _shard(self, slot: str, problems: Sequence[Problem]) -> ShardResult:
        tables = {"problems": problem_rows(problems), "questions": question_rows(problems)}
        refs = tuple(self._put(table, rows, slot) for table, rows in tables.items())
        return ShardResult(refs, len(problems), 0)


def given(label: str, ref: TableRef) -> Made:
    """A handle of one part that no stage made."""
    return Made(label, 1, [ShardResult((ref,), ref.rows, 0)])
