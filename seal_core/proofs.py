"""Checks a kind of another package without a model, before a run starts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from seal_core.domains.base import Domain, Grading
from seal_core.errors import InputError, in_one_line
from seal_core.outer_loops import OuterLoop
from seal_core.rewards.aggregate import score_self_edits
from seal_core.rewards.reward import Reward
from seal_core.rewards.selection import SelectionRule
from seal_core.types import Answer, Problem, Score, Selection, SelfEdit


def prove_domain(kind: str, domain: Domain) -> None:
    """Passes if a domain has a name; its questions prove themselves, see `prove_problems`.

    Raises:
        InputError: It has none.
    """
    if not domain.name or not isinstance(domain.name, str):
        raise InputError(f"domain.kind = {kind!r} has no name, which its problems' ids begin with")


def prove_problems(domain: Domain, problems: Sequence[Problem]) -> None:
    """Passes if every reference answer is right, and an empty one wrong.

    Raises:
        InputError: Names the question.
    """
    for problem in problems:
        for question in problem.questions:
            n = len(domain.answer_prompts(problem, question))
            for reference in question.gold:
                if not _graded(domain, question, [reference] * n).correct:
                    raise InputError(
                        f"domain {domain.name!r} grades its own reference answer {reference!r} to "
                        f"{question.prompt!r} as wrong: correct the data, or how it grades"
                    )
            if _graded(domain, question, [""] * n).correct:
                raise InputError(
                    f"domain {domain.name!r} grades an empty answer to {question.prompt!r} as "
                    "right: correct the data, or how it grades"
                )


def prove_reward(kind: str, reward: Reward) -> None:
    """Passes if right answers earn more than wrong ones, and both a finite number.

    Raises:
        InputError: They do not, or it fails.
    """
    right, wrong = (_scores(kind, reward, is_right)[0].reward for is_right in (True, False))
    if right is None or wrong is None or not (math.isfinite(right) and math.isfinite(wrong)):
        raise InputError(f"reward.kind = {kind!r} gives graded answers no finite reward")
    if right <= wrong:
        raise InputError(
            f"reward.kind = {kind!r} gives right answers {right:g} and wrong ones {wrong:g}: right "
            "ones must earn more"
        )


def prove_selection(kind: str, rule: SelectionRule) -> None:
    """Passes if a rule gives each score its verdict and keeps nothing that is unusable.

    Raises:
        InputError: It does not, or it fails.
    """
    scores = [_score(0, 1.0), _score(1, 0.0), _score(2, None), _score(3, 1.0, "blank")]
    found = _tried(f"selection.kind = {kind!r}", lambda: rule.select(scores))
    if [own.self_edit_id for own in found] != [own.self_edit_id for own in scores]:
        raise InputError(
            f"selection.kind = {kind!r} must give one verdict per score, in their order"
        )
    if any(own.kept for own, score in zip(found, scores, strict=True) if score.unusable):
        raise InputError(f"selection.kind = {kind!r} keeps a self-edit that teaches nothing")


def prove_outer_loop(kind: str, loop: OuterLoop) -> None:
    """Passes if a loop weighs self-edits that exist, by finite positive numbers.

    Raises:
        InputError: It does not, or it fails.
    """
    name = f"outer_loop.kind = {kind!r}"
    edits, scores = [_edit(0), _edit(1)], [_score(0, 1.0), _score(1, 0.0)]
    selections = [
        Selection(own.self_edit_id, "p", "policy", own.reward == 1.0, rank, own.reward, "", "")
        for rank, own in enumerate(scores)
    ]
    if loop.start not in ("policy", "base"):
        raise InputError(f"{name}: start is {loop.start!r}: use 'policy' or 'base'")
    found = _tried(name, lambda: dict(loop.weights(edits, scores, selections)))
    check_weights(name, found, {edit.self_edit_id for edit in edits})
    if not found:
        raise InputError(f"{name} learns nothing from a round in which a self-edit was kept")


def check_weights(name: str, weights: dict[str, float], known: set[str]) -> None:
    """Passes if weights are of known self-edits, finite and positive.

    Raises:
        InputError: They are not.
    """
    if strange := sorted(weights.keys() - known):
        raise InputError(f"{name} weighs {strange[0]!r}, which is no self-edit of the round")
    for item, weight in weights.items():
        if not (math.isfinite(weight) and weight > 0):
            raise InputError(f"{name} gives {item} the weight {weight}: it must be positive")


def _graded(domain: Domain, question: Any, texts: Sequence[str]) -> Grading:
    return _tried(f"domain {domain.name!r}", lambda: domain.grade(question, texts))


def _tried(name: str, work: Callable[[], Any]) -> Any:
    try:
        return work()
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"{name} fails when it is tried ({type(error).__name__}: {in_one_line(error)})"
        ) from error


def _scores(kind: str, reward: Reward, is_right: bool) -> list[Score]:
    answers = [_answer(i, is_right) for i in range(3)]
    return _tried(
        f"reward.kind = {kind!r}", lambda: score_self_edits([_edit(0)], answers, [], reward)
    )


def _edit(index: int) -> SelfEdit:
    return SelfEdit(
        self_edit_id=f"edit-{index}",
        problem_id="p",
        split="train",
        condition="round_0",
        policy_id="policy",
        sample_index=index,
        prompt_id="proof@1",
        text="What there is to learn.",
        n_tokens=6,
        logprob=-6.0,
        finish_reason="stop",
        seed=0,
        unusable=None,
        error=None,
    )


def _answer(index: int, is_right: bool) -> Answer:
    return Answer(
        answer_id=f"answer-{index}",
        problem_id="p",
        question_id=f"q-{index}",
        split="train",
        condition="round_0",
        policy_id="policy",
        adapter_id="adapter",
        self_edit_id="edit-0",
        repeat=0,
        text="right" if is_right else "",
        correct=is_right,
        grades={name: float(is_right) for name in ("exact_match", "f1", "contains")},
        logprob=-1.0,
        n_tokens=1,
        reference_logprob=-0.5 if is_right else -5.0,
        reference_tokens=1,
        grader="exact_match",
        error=None,
    )


def _score(index: int, reward: float | None, unusable: str | None = None) -> Score:
    return Score(
        self_edit_id=f"edit-{index}",
        problem_id="p",
        split="train",
        condition="round_0",
        policy_id="policy",
        sample_index=index,
        unusable=unusable,
        reward_name="proof",
        baseline_reward=0.5,
        reward=reward,
        gain=None if reward is None else reward - 0.5,
        uncertainty=None,
        components={},
        n_repeats=1,
        n_answers=3,
        n_errors=0,
    )
