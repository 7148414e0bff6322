"""Aggregates graded answers into one score per self-edit.

Errors never become wrong answers: an answer with an error is left out of the mean and counted
in `n_errors`, and a self-edit of which nothing was graded has no reward at all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from seal_core.errors import StageError
from seal_core.kinds.worth import judgement_fault
from seal_core.rewards.reward import Accuracy, Judgement, Reward
from seal_core.types import Answer, Score, SelfEdit

_NOTHING = Judgement(None)


def score_self_edits(
    edits: Sequence[SelfEdit],
    answers: Iterable[Answer],
    baseline_answers: Iterable[Answer],
    reward: Reward | None = None,
) -> list[Score]:
    """One score per self-edit, in the order of `edits`.

    Args:
        answers: Answers of the self-edits' adapters; matched by `self_edit_id`.
        baseline_answers: Answers without an adapter; matched by `problem_id`, and for each
            problem of one policy under one condition. Those asked several times are averaged as
            repeats too.
        reward: Accuracy without one.

    Raises:
        StageError: a reward is no finite number, which nothing can be compared with.
        ValueError: baseline answers of a problem are from several policies or conditions.
    """
    judge = reward or Accuracy()
    by_edit: dict[str, list[Answer]] = defaultdict(list)
    for answer in answers:
        if answer.self_edit_id is not None:
            by_edit[answer.self_edit_id].append(answer)
    baseline = _baselines(baseline_answers, judge)
    return [
        _score(edit, by_edit[edit.self_edit_id], baseline.get(edit.problem_id), judge)
        for edit in edits
    ]


def _baselines(answers: Iterable[Answer], reward: Reward) -> dict[str, float | None]:
    source: dict[str, tuple[str, str]] = {}
    graded: dict[str, list[Answer]] = defaultdict(list)
    for answer in answers:
        here = (answer.policy_id, answer.condition)
        if source.setdefault(answer.problem_id, here) != here:
            raise ValueError(
                f"baseline answers of {answer.problem_id} mix {source[answer.problem_id]} "
                f"and {here}: pass those of one policy and condition"
            )
        if _is_graded(answer):
            graded[answer.problem_id].append(answer)
    return {p: _judged(reward, p, found, None).reward for p, found in graded.items()}


def _judged(
    reward: Reward, problem: str, answers: Sequence[Answer], edit: SelfEdit | None
) -> Judgement:
    found = reward.judge(answers, edit)
    if fault := judgement_fault(found):
        what = edit.self_edit_id if edit else "the baseline"
        raise StageError(
            f"the reward {reward.name!r} gives {what} of {problem} {fault}: repair the reward, "
            "and go on with the same command"
        )
    return Judgement(
        reward=None if found.reward is None else float(found.reward),
        uncertainty=None if found.uncertainty is None else float(found.uncertainty),
        components={name: float(value) for name, value in found.components.items()},
        n_repeats=found.n_repeats,
    )


def _is_graded(answer: Answer) -> bool:
    return answer.error is None and answer.correct is not None


def _score(
    edit: SelfEdit, answers: Sequence[Answer], baseline: float | None, reward: Reward
) -> Score:
    # An edit that was lost to an error is never trained on; stray answers must not revive it.
    graded = [answer for answer in answers if _is_graded(answer) and not edit.error]
    found = _judged(reward, edit.problem_id, graded, edit) if graded else _NOTHING
    gain = None if found.reward is None or baseline is None else found.reward - baseline
    return Score(
        self_edit_id=edit.self_edit_id,
        problem_id=edit.problem_id,
        split=edit.split,
        condition=edit.condition,
        policy_id=edit.policy_id,
        sample_index=edit.sample_index,
        unusable=edit.unusable,
        reward_name=reward.name,
        baseline_reward=baseline,
        reward=found.reward,
        gain=gain,
        uncertainty=found.uncertainty,
        components=dict(sorted(found.components.items())),
        n_repeats=found.n_repeats,
        n_answers=len(graded),
        n_errors=len(answers) - len(graded),
    )
