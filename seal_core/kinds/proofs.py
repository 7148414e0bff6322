"""Checks a kind of another package without a model, before a run starts; and what it then says.

What is `title` here is how messages name the kind, see `Foreign.title`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from seal_core.domains.base import Domain, Grading, ProblemSet
from seal_core.errors import InputError
from seal_core.kinds.guarded import before_work
from seal_core.kinds.proof_rows import proof_answers, proof_edit, proof_score
from seal_core.kinds.worth import grading_fault, is_number, is_text
from seal_core.outer_loops import OuterLoop
from seal_core.rewards.aggregate import score_self_edits
from seal_core.rewards.reward import REFERENCE_LOGPROBS, Reward
from seal_core.rewards.selection import SelectionRule
from seal_core.types import Problem, Question, Score, Selection, SelfEdit

_HEAVIEST = 1e12
"""Of an example; only how weights compare counts, and sums of them must stay finite."""


def prove_problems(title: str, domain: Domain, problems: ProblemSet) -> None:
    """Passes if problems are whole, and each reference answer is right, an empty one wrong.

    Raises:
        InputError: Names the problem or question.
    """
    if not domain.name or not isinstance(domain.name, str):
        raise InputError(f"{title} has no name, which its problems' ids begin with")
    if fault := problems_fault(problems):
        raise InputError(f"{title} {fault}")
    for problem in (*problems.train, *problems.heldout):
        for question in problem.questions:
            _prove_question(title, domain, problem, question)


def _prove_question(title: str, domain: Domain, problem: Problem, question: Question) -> None:
    for text in (*question.gold, ""):
        if fault := grading_fault(_graded(domain, problem, question, text)):
            raise InputError(f"{title} {fault}")
    for reference in question.gold:
        if not _graded(domain, problem, question, reference).correct:
            raise InputError(
                f"{title} grades its own reference answer {reference!r} to "
                f"{question.prompt!r} as wrong: correct the data, or how it grades"
            )
    if _graded(domain, problem, question, "").correct:
        raise InputError(
            f"{title} grades an empty answer to {question.prompt!r} as right: correct the data, "
            "or how it grades"
        )


def _graded(domain: Domain, problem: Problem, question: Question, text: str) -> Grading:
    """Of the same answer to all prompts of a question."""
    return domain.grade(question, [text] * len(domain.answer_prompts(problem, question)))


def prove_reward(title: str, reward: Reward, domain: Domain, problem: Problem) -> None:
    """Passes if right answers earn more than wrong ones, and both a finite number.

    Args:
        domain: The run's, whose grades the reward may read.
        problem: Any of it.

    Raises:
        InputError: They do not, or it fails.
    """
    with before_work(title):
        evidence, known = reward.evidence, {REFERENCE_LOGPROBS}
        if not isinstance(evidence, set | frozenset) or not evidence <= known:
            raise InputError(f"{title}: evidence is {evidence!r}: use a set within {known}")
        if not reward.name or not isinstance(reward.name, str):
            raise InputError(f"{title} has no name, which scores are stored with")
        question = problem.questions[0]
        right, wrong = (
            _reward_of(reward, _graded(domain, problem, question, text))
            for text in (question.gold[0], "")
        )
        if right is None or wrong is None:
            raise InputError(f"{title} gives graded answers no reward")
        if right <= wrong:
            raise InputError(
                f"{title} gives right answers {right:g} and wrong ones {wrong:g}: right ones must "
                "earn more"
            )


def _reward_of(reward: Reward, grading: Grading) -> float | None:
    """What answers earn that are graded like this, with an adapter and without one."""
    logprob = -5.0 + 4.0 * grading.correct if REFERENCE_LOGPROBS in reward.evidence else None
    adapted, baseline = (proof_answers(grading, logprob, adapted) for adapted in (True, False))
    (score,) = score_self_edits([proof_edit(0)], adapted, baseline, reward)
    return score.reward


def prove_selection(title: str, rule: SelectionRule) -> None:
    """Passes if a rule says what may be said of made-up scores, see `selections_fault`.

    Raises:
        InputError: It does not, or it fails.
    """
    with before_work(title):
        scores = _scores()
        if fault := selections_fault(scores, rule.select(scores)):
            raise InputError(f"{title} {fault}")


def prove_outer_loop(title: str, loop: OuterLoop) -> None:
    """Passes if a loop weighs self-edits as it may, see `weights_fault`, and not none of them.

    Raises:
        InputError: It does not, or it fails.
    """
    with before_work(title):
        if loop.start not in ("policy", "base"):
            raise InputError(f"{title}: start is {loop.start!r}: use 'policy' or 'base'")
        scores = _scores()
        edits = [proof_edit(0), proof_edit(1), proof_edit(2, error="lost")]
        edits.append(proof_edit(3, unusable="blank"))
        selections = [
            Selection(own.self_edit_id, "p", "policy", rank == 0, rank, own.reward, "", "")
            for rank, own in enumerate(scores)
        ]
        found = loop.weights(edits, scores, selections)
        if fault := weights_fault(edits, found):
            raise InputError(f"{title} {fault}")
        if not found:
            raise InputError(f"{title} learns nothing from a round in which a self-edit was kept")


def _scores() -> list[Score]:
    """Of a good self-edit, a bad one, one that was lost, and one that teaches nothing."""
    good, bad, lost = proof_score(0, 1.0), proof_score(1, 0.0), proof_score(2, None)
    return [good, bad, lost, proof_score(3, 1.0, "blank")]


def problems_fault(problems: ProblemSet) -> str | None:
    """What is wrong with the problems of a domain."""
    seen: dict[str, str] = {}
    for split, own in (("train", problems.train), ("heldout", problems.heldout)):
        if not isinstance(own, tuple | list):
            return f"has a {type(own).__name__} of {split} problems: use a tuple"
        if not own:
            return f"has no {split} problem"
        for problem in own:
            item = problem.problem_id
            if text := _no_text(problem):
                return f"has {text} in {item}: use Unicode text"
            if problem.split != split:
                return f"has {item} among its {split} problems, and its split is {problem.split!r}"
            if not problem.questions:
                return f"has no question about {item}"
            for unit in (item, *(question.question_id for question in problem.questions)):
                if unit in seen:
                    return f"has {unit} twice, in {seen[unit]} and in {split}: ids are unique"
                seen[unit] = split
            for question in problem.questions:
                if not question.gold or not all(text.strip() for text in question.gold):
                    return f"has no reference answer to {question.question_id}, or a blank one"
    return None


def _no_text(problem: Problem) -> str | None:
    """What of a problem is no text that can be stored."""
    texts = [problem.problem_id, problem.title, problem.context]
    for question in problem.questions:
        texts += [question.question_id, question.prompt, *question.gold]
    return next((ascii(text) for text in texts if not is_text(text)), None)


def selections_fault(scores: Sequence[Score], found: Any) -> str | None:
    """What is wrong with verdicts: each score has one, and what has no worth is not kept."""
    wanted = [score.self_edit_id for score in scores]
    verdicts = found if isinstance(found, Sequence) else ()
    if [own.self_edit_id for own in verdicts if isinstance(own, Selection)] != wanted:
        return "must give one verdict per score, in their order"
    for own, score in zip(verdicts, scores, strict=True):
        if own.kept and score.unusable is not None:
            return f"keeps {own.self_edit_id}, a self-edit that teaches nothing: {score.unusable}"
        if own.kept and score.reward is None:
            return f"keeps {own.self_edit_id}, which has no reward: nothing of it was graded"
    return None


def weights_fault(edits: Sequence[SelfEdit], weights: Any) -> str | None:
    """What is wrong with weights: they are positive, and of self-edits that can be learnt."""
    if not isinstance(weights, Mapping):
        return f"gives {type(weights).__name__} for weights: use a mapping by self-edit"
    known = {edit.self_edit_id: edit for edit in edits}
    for item, weight in weights.items():
        if item not in known:
            return f"weighs {item!r}, which is no self-edit of the round"
        if why := known[item].error or known[item].unusable:
            return f"weighs {item}, which teaches nothing: {why}"
        if not (is_number(weight) and 0 < weight <= _HEAVIEST):
            return f"gives {item} the weight {weight!r}: it must be a positive number, at most 1e12"
    return None
