"""Turns parsed passages into problems with content ids, and splits them into two sets."""

from __future__ import annotations

from collections.abc import Sequence

from seal_core.config import DataSection
from seal_core.domains.base import ProblemSet, new_problem
from seal_core.domains.records import RawProblem, context_key
from seal_core.errors import InputError
from seal_core.rewards.graders import validate_question
from seal_core.types import LeftOut, Problem, Split


def build_problem_set(
    train: Sequence[RawProblem],
    heldout: Sequence[RawProblem] | None,
    data: DataSection,
    domain: str,
    left_out: Sequence[LeftOut] = (),
) -> ProblemSet:
    """Applies limits and the held-out share, and checks that no passage is in both sets.

    Args:
        train: All passages of the training source, `data.limit` not yet applied.
        heldout: All passages of the held-out source; None splits `train`.
        left_out: What the sources have beside them.

    Raises:
        InputError: one problem only and no held-out source, or a passage in both sets.
    """
    found = list(left_out)
    train = _limit(train, "limit", data.limit, found)
    if heldout is None:
        train, heldout = _split(train, data)
    heldout = _limit(heldout, "heldout_limit", data.heldout_limit, found)
    _refuse_overlap(train, heldout)
    found += _questions_beyond([*train, *heldout], data.max_questions)
    return ProblemSet(
        tuple(make_problem(raw, domain, "train", data.max_questions) for raw in train),
        tuple(make_problem(raw, domain, "heldout", data.max_questions) for raw in heldout),
        tuple(found),
    )


def make_problem(
    raw: RawProblem, domain: str, split: Split, max_questions: int | None = None
) -> Problem:
    """One problem, see `new_problem`; every grader proves itself on its questions."""
    asked = [(question.text, question.golds) for question in raw.questions[:max_questions]]
    problem = new_problem(domain, split, raw.title, raw.context, asked)
    try:
        for question in problem.questions:
            validate_question(question)
    except InputError as error:
        raise InputError(f"{raw.where}: {error}") from None
    return problem


def _limit(
    raws: Sequence[RawProblem], key: str, limit: int | None, left_out: list[LeftOut]
) -> Sequence[RawProblem]:
    """The first problems; the others are added to `left_out`."""
    if limit is None:
        return raws
    reason = f"beyond data.{key} = {limit}"
    left_out += [LeftOut("problem", raw.where, raw.title, reason) for raw in raws[limit:]]
    return raws[:limit]


def _questions_beyond(raws: Sequence[RawProblem], limit: int | None) -> list[LeftOut]:
    if limit is None:
        return []
    reason = f"beyond data.max_questions = {limit}"
    return [
        LeftOut("question", raw.where, question.text, reason)
        for raw in raws
        for question in raw.questions[limit:]
    ]


def _split(
    raws: Sequence[RawProblem], data: DataSection
) -> tuple[Sequence[RawProblem], Sequence[RawProblem]]:
    """The last share is held out: at least one problem, and never all of them."""
    if len(raws) < 2:
        raise InputError(
            f"{data.path}: only one problem is used, so none can be held out: "
            "set data.heldout_path, or give more problems"
        )
    n_heldout = min(max(1, round(len(raws) * data.heldout_share)), len(raws) - 1)
    return raws[:-n_heldout], raws[-n_heldout:]


def _refuse_overlap(train: Sequence[RawProblem], heldout: Sequence[RawProblem]) -> None:
    seen = {context_key(raw.context): raw.where for raw in train}
    for raw in heldout:
        where = seen.get(context_key(raw.context))
        if where is not None:
            raise InputError(
                f"{raw.where}: this held-out passage is also a training passage ({where}): "
                "remove it from one of them"
            )
