"""Graders: how right an answer is, in [0, 1], and whether that counts as correct.

A grader takes the best score over a question's golds. Each proves itself on every question
before a run starts: a gold must score 1 and an empty answer 0 (`validate_question`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from seal_core.errors import InputError
from seal_core.rewards.normalize import raw_tokens, tokens
from seal_core.types import Question

Words = tuple[str, ...]

F1_CORRECT = 0.5
"""An answer whose token F1 reaches this is correct under the `f1` grader."""


@dataclass(frozen=True, slots=True)
class Grades:
    """All built-in gradings of one answer, each in [0, 1]."""

    exact_match: float
    f1: float
    contains: float


@dataclass(frozen=True, slots=True)
class Grader:
    """One way to grade.

    Attributes:
        grader_id: Name in `evaluate.grader`, and the field of `Grades`.
        compare: Score of an answer's words against a gold's words, in [0, 1].
        threshold: Scores at or above it are correct.
    """

    grader_id: str
    compare: Callable[[Words, Words], float]
    threshold: float

    def score(self, text: str, golds: Sequence[str]) -> float:
        """Best score over the golds, in [0, 1]."""
        return max(self.compare(*_words(text, gold)) for gold in golds)

    def verdict(self, grades: Grades) -> bool:
        """Whether an answer with these grades is correct."""
        return getattr(grades, self.grader_id) >= self.threshold

    def validate(self, question: Question) -> None:
        """Checks that every gold scores 1 and an empty answer 0.

        Raises:
            InputError: names the question and the gold.
        """
        for gold in question.gold:
            if self.score(gold, question.gold) != 1.0:
                raise InputError(
                    f"question {question.prompt!r}: its own answer {gold!r} does not score 1 "
                    f"under {self.grader_id!r}: correct the answer in the data"
                )
        if self.score("", question.gold) != 0.0:
            raise InputError(
                f"question {question.prompt!r}: an empty answer scores above 0 under "
                f"{self.grader_id!r}: remove blank answers from the data"
            )


def get_grader(grader_id: str) -> Grader:
    """The grader of this name.

    Raises:
        InputError: unknown name; lists those that are known.
    """
    if grader_id not in _GRADERS:
        known = ", ".join(_GRADERS)
        raise InputError(f"the grader {grader_id!r} is not known: use one of {known}")
    return _GRADERS[grader_id]


def grade_all(text: str, golds: Sequence[str]) -> Grades:
    """All built-in gradings of an answer."""
    return Grades(**{name: grader.score(text, golds) for name, grader in _GRADERS.items()})


def validate_question(question: Question) -> None:
    """Runs the self-check of every grader on a question.

    Raises:
        InputError: see `Grader.validate`.
    """
    for grader in _GRADERS.values():
        grader.validate(question)


def _words(text: str, gold: str) -> tuple[Words, Words]:
    """Words of answer and gold; both raw if normalising would leave nothing of the gold."""
    words = tokens(gold)
    return (tokens(text), words) if words else (raw_tokens(text), raw_tokens(gold))


def _exact_match(answer: Words, gold: Words) -> float:
    return float(bool(answer) and answer == gold)


def _f1(answer: Words, gold: Words) -> float:
    """Harmonic mean of token precision and recall (Rajpurkar et al. 2016)."""
    common = sum((Counter(answer) & Counter(gold)).values())
    # 2PR / (P + R) with P = common / len(answer), R = common / len(gold).
    return 2.0 * common / (len(answer) + len(gold)) if common else 0.0


def _contains(answer: Words, gold: Words) -> float:
    """Whether the gold's words stand in the answer as whole words, next to one another."""
    n = len(gold)
    return float(n > 0 and any(answer[i : i + n] == gold for i in range(len(answer) - n + 1)))


_GRADERS = {
    grader.grader_id: grader
    for grader in (
        Grader("exact_match", _exact_match, 1.0),
        Grader("f1", _f1, F1_CORRECT),
        Grader("contains", _contains, 1.0),
    )
}
