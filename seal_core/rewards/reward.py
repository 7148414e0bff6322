"""The Reward protocol, and the rewards that are built in."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from seal_core.types import Answer, SelfEdit

REFERENCE_LOGPROBS = "reference_logprobs"
"""Evidence: how probable the adapted model finds a question's first reference answer."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a model's answers to one problem are worth.

    Attributes:
        reward: None if nothing could be judged.
        uncertainty: Standard error of the reward over repeats; None below two repeats.
        components: What the reward was made of, by name; kept beside it.
        n_repeats: Trainings that the reward is the mean of.
    """

    reward: float | None
    uncertainty: float | None = None
    components: Mapping[str, float] = field(default_factory=dict)
    n_repeats: int = 0


class Reward(Protocol):
    """Turns the answers of a model that learnt a self-edit into a number to select by.

    The same judgement of the model without the self-edit is the baseline, and their difference
    the gain.
    """

    @property
    def name(self) -> str:
        """Goes into the column `reward_name`."""
        ...

    @property
    def evidence(self) -> frozenset[str]:
        """What the evaluation must collect besides answers, such as `REFERENCE_LOGPROBS`."""
        ...

    def judge(self, answers: Sequence[Answer], edit: SelfEdit | None) -> Judgement:
        """Judges one model, by a finite number.

        Args:
            answers: Its answers to one problem's questions, of all repeats; none has an error.
            edit: What it learnt; None for the baseline.
        """
        ...


@dataclass(frozen=True, slots=True)
class Accuracy:
    """The mean over repeats of each repeat's share of right answers (paper, section 3.1).

    So a repeat that lost answers to errors weighs as much as another.

    Attributes:
        decimals: Round each repeat's accuracy first. The published code rounds to 4, which
            decides some of its ties; None, exact, is right for everything else.
    """

    decimals: int | None = None
    name: str = "accuracy"
    evidence: frozenset[str] = frozenset()

    def judge(self, answers: Sequence[Answer], edit: SelfEdit | None) -> Judgement:
        """The accuracy, which is the only component."""
        means = repeat_means(answers, lambda answer: float(bool(answer.correct)))
        if self.decimals is not None:
            means = [round(mean, self.decimals) for mean in means]
        found = mean_over_repeats(means)
        return Judgement(*found, {} if found[0] is None else {"accuracy": found[0]}, len(means))


@dataclass(frozen=True, slots=True)
class Likelihood:
    """The mean log-probability of the reference answers, nats per token.

    Finer than accuracy, which takes few values on few questions: it sees a step towards the
    answer that does not change the verdict.
    """

    name: str = "likelihood"
    evidence: frozenset[str] = frozenset({REFERENCE_LOGPROBS})

    def judge(self, answers: Sequence[Answer], edit: SelfEdit | None) -> Judgement:
        """The likelihood, with the accuracy beside it."""
        known = [answer for answer in answers if answer.reference_tokens]
        means = repeat_means(known, per_token)
        reward, error = mean_over_repeats(means)
        components = dict(Accuracy().judge(answers, edit).components)
        if reward is not None:
            components["likelihood"] = reward
        return Judgement(reward, error, components, len(means))


def per_token(answer: Answer) -> float:
    """Log-probability of a reference answer, nats per token."""
    return (answer.reference_logprob or 0.0) / (answer.reference_tokens or 1)


def repeat_means(answers: Sequence[Answer], value: Callable[[Answer], float]) -> list[float]:
    """Mean of a value over the answers of each repeat."""
    by_repeat: dict[int, list[float]] = defaultdict(list)
    for answer in answers:
        by_repeat[answer.repeat].append(value(answer))
    return [math.fsum(found) / len(found) for found in by_repeat.values()]


def mean_over_repeats(means: Sequence[float]) -> tuple[float | None, float | None]:
    """Mean, None of nothing; and its standard error SD (n - 1) / sqrt(n), None below two."""
    n = len(means)
    if n == 0:
        return None, None
    centre = math.fsum(means) / n
    if n == 1:
        return centre, None
    return centre, math.sqrt(math.fsum((mean - centre) ** 2 for mean in means) / (n - 1) / n)
