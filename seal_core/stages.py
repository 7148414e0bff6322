"""The stages of the method as the algorithm calls them, whoever carries them out.

The algorithm sees handles, and no rows: which stage follows which depends on the config and on
counts alone. So one statement of the order serves a run, its plan, and a count of its work.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from seal_core.types import Split


@dataclass(frozen=True)
class Place:
    """Where the rows of a stage belong.

    Attributes:
        label: What a person sees after the stage's name, e.g. `heldout round_1`; unique per stage.
        condition: See `seal_core.types`.
        round_index: Partition of the rows.
    """

    label: str
    condition: str
    round_index: int


@dataclass(frozen=True)
class Handle:
    """What a stage makes.

    Attributes:
        label: Of the stage, e.g. `finetune round_1`.
        shards: How many pieces it is cut into.
    """

    label: str
    shards: int


class Stages(Protocol):
    """Carries stages out, plans them, or counts them.

    A handle is for the methods of the object that gave it. Stages over problems keep their shards.
    """

    def problems(self, split: Split) -> Handle:
        """The problems of a split."""
        ...

    def base_policy(self) -> Handle:
        """The base model as the policy of round 0."""
        ...

    def sample(self, problems: Handle, policy: Handle, at: Place, per_problem: int) -> Handle:
        """Self-edits that the policy writes, `per_problem` for each problem."""
        ...

    def passages(self, problems: Handle, policy: Handle, at: Place) -> Handle:
        """Empty self-edits, one for each problem: their training rows are the passage alone."""
        ...

    def copies(self, problems: Handle, policy: Handle, edits: Handle, at: Place) -> Handle:
        """The same self-edits under another condition, to be trained on `policy`."""
        ...

    def finetune(
        self,
        problems: Handle,
        policy: Handle,
        edits: Handle,
        at: Place,
        repeats: int,
        match: tuple[Handle, Handle] | None = None,
    ) -> Handle:
        """Adapters on the policy, `repeats` for each self-edit.

        Args:
            match: Adapters of the same passages, and adapters whose steps and tokens are to be
                spent on them; None trains by epochs.
        """
        ...

    def evaluate(
        self, problems: Handle, policy: Handle, at: Place, adapters: Handle | None = None
    ) -> Handle:
        """Graded answers with each adapter on the policy, or of the policy itself."""
        ...

    def score(self, edits: Handle, answers: Handle, baseline: Handle, at: Place) -> Handle:
        """Rewards of self-edits."""
        ...

    def select(self, scores: Handle, at: Place) -> Handle:
        """Verdicts: which self-edits the policy learns from."""
        ...

    def update(
        self,
        problems: Handle,
        policy: Handle,
        edits: Handle,
        scores: Handle,
        selected: Handle,
        at: Place,
    ) -> Handle:
        """The next policy."""
        ...

    def retain(self, round_index: int) -> None:
        """A round is done: weights that the run is not to keep may go."""
        ...
