"""Made-up rows on which kinds of other packages are tried."""

from __future__ import annotations

from seal_core.domains.base import Grading
from seal_core.types import NO_ADAPTATION, Answer, Score, SelfEdit


def proof_edit(index: int, unusable: str | None = None, error: str | None = None) -> SelfEdit:
    """One of the self-edits of a problem."""
    return SelfEdit(
        self_edit_id=f"edit-{index}",
        problem_id="p",
        split="train",
        condition="round_0",
        policy_id="policy",
        sample_index=index,
        prompt_id="proof@1",
        text="" if unusable or error else "What there is to learn.",
        n_tokens=6,
        logprob=-6.0,
        finish_reason="stop",
        seed=0,
        unusable=unusable,
        error=error,
    )


def proof_answers(grading: Grading, reference_logprob: float | None, adapted: bool) -> list[Answer]:
    """Answers to three questions, all graded alike: of an adapter, or without one."""
    return [_answer(i, grading, reference_logprob, adapted) for i in range(3)]


def _answer(index: int, grading: Grading, reference_logprob: float | None, adapted: bool) -> Answer:
    return Answer(
        answer_id=f"answer-{index}-{adapted}",
        problem_id="p",
        question_id=f"q-{index}",
        split="train",
        condition="round_0" if adapted else NO_ADAPTATION,
        policy_id="policy",
        adapter_id="adapter" if adapted else None,
        self_edit_id="edit-0" if adapted else None,
        repeat=0,
        text=grading.text,
        correct=grading.correct,
        grades=dict(sorted(grading.grades.items())),
        logprob=-1.0,
        n_tokens=1,
        reference_logprob=reference_logprob,
        reference_tokens=None if reference_logprob is None else 1,
        grader="proof",
        error=None,
    )


def proof_score(index: int, reward: float | None, unusable: str | None = None) -> Score:
    """The score of a self-edit, against a baseline of 0.5."""
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
