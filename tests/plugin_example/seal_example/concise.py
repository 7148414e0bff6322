"""A reward: accuracy less a price for each token that the self-edit takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from seal_core.rewards.reward import Accuracy, Judgement
from seal_core.section import Section
from seal_core.types import Answer, SelfEdit


class Concise:
    """Implements `seal_core.rewards.reward.Reward`."""

    name = "concise"
    evidence: frozenset[str] = frozenset()

    class Options(Section):
        """The settings of `[reward]` with this kind."""

        price: float = 0.001

    def __init__(self, options: Options) -> None:
        self._price = options.price

    def judge(self, answers: Sequence[Answer], edit: SelfEdit | None) -> Judgement:
        found = Accuracy().judge(answers, edit)
        if edit is None or found.reward is None:
            return found
        cost = self._price * (edit.n_tokens or 0)
        return replace(
            found, reward=found.reward - cost, components={**found.components, "cost": cost}
        )
