"""Aggregates graded answers into one score per self-edit.

Errors never become wrong answers: an answer with an error is left out of the mean and counted
in `n_errors`, and a self-edit of which nothing was graded has no accuracy at all.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

from seal_core.types import Answer, Score, SelfEdit


def score_self_edits(
    edits: Sequence[SelfEdit],
    answers: Iterable[Answer],
    baseline_answers: Iterable[Answer],
    decimals: int | None = None,
) -> list[Score]:
    """One score per self-edit, in the order of `edits`.

    `adapter_accuracy` is the mean over repeats of each repeat's mean over its graded questions
    (paper, section 3.1), so that a repeat that lost answers to errors weighs as much as another.

    Args:
        answers: Answers of the self-edits' adapters; matched by `self_edit_id`.
        baseline_answers: Answers without an adapter; matched by `problem_id`, and for each
            problem of one policy under one condition. Those asked several times are averaged as
            repeats too.
        decimals: Round each repeat's accuracy first. The published code rounds to 4, which
            decides some of its ties; None, exact, is right for everything else.

    Raises:
        ValueError: baseline answers of a problem are from several policies or conditions.
    """
    by_edit: dict[str, list[Answer]] = defaultdict(list)
    for answer in answers:
        if answer.self_edit_id is not None:
            by_edit[answer.self_edit_id].append(answer)
    baseline = _baseline_accuracies(baseline_answers, decimals)
    return [
        _score(edit, by_edit[edit.self_edit_id], baseline.get(edit.problem_id), decimals)
        for edit in edits
    ]


def _baseline_accuracies(answers: Iterable[Answer], decimals: int | None) -> dict[str, float]:
    source: dict[str, tuple[str, str]] = {}
    graded: dict[str, list[Answer]] = defaultdict(list)
    for answer in answers:
        here = (answer.policy_id, answer.condition)
        if source.setdefault(answer.problem_id, here) != here:
            raise ValueError(
                f"baseline answers of {answer.problem_id} mix {source[answer.problem_id]} "
                f"and {here}: pass those of one policy and condition"
            )
        if answer.error is None and answer.correct is not None:
            graded[answer.problem_id].append(answer)
    means = {problem_id: _repeat_means(rows, decimals) for problem_id, rows in graded.items()}
    return {problem_id: math.fsum(found) / len(found) for problem_id, found in means.items()}


def _repeat_means(graded: Sequence[Answer], decimals: int | None) -> list[float]:
    """Accuracy of each repeat, over its graded answers."""
    by_repeat: dict[int, list[bool]] = defaultdict(list)
    for answer in graded:
        by_repeat[answer.repeat].append(bool(answer.correct))
    means = [sum(marks) / len(marks) for marks in by_repeat.values()]
    return means if decimals is None else [round(mean, decimals) for mean in means]


def _score(
    edit: SelfEdit, answers: Sequence[Answer], baseline: float | None, decimals: int | None
) -> Score:
    # An edit without usable text is never trained on; stray answers must not revive it.
    graded = [a for a in answers if a.error is None and a.correct is not None and not edit.error]
    means = _repeat_means(graded, decimals)
    accuracy = math.fsum(means) / len(means) if means else None
    gain = None if accuracy is None or baseline is None else accuracy - baseline
    return Score(
        self_edit_id=edit.self_edit_id,
        problem_id=edit.problem_id,
        split=edit.split,
        condition=edit.condition,
        policy_id=edit.policy_id,
        sample_index=edit.sample_index,
        baseline_accuracy=baseline,
        adapter_accuracy=accuracy,
        gain=gain,
        uncertainty=_standard_error(means),
        n_repeats=len(means),
        n_answers=len(graded),
        n_errors=len(answers) - len(graded),
    )


def _standard_error(means: Sequence[float]) -> float | None:
    """Of the mean over repeats: SD (n - 1) / sqrt(n); None below two repeats."""
    n = len(means)
    if n < 2:
        return None
    centre = math.fsum(means) / n
    return math.sqrt(math.fsum((mean - centre) ** 2 for mean in means) / (n - 1) / n)
