"""Turns one published article into a problem, self-edits, adapters, answers and scores.

What the file does not say is None: token counts, seeds, losses, weights. Verdicts are the file's
own; the built-in gradings stand beside them, as they do beside verdicts of ours.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace

from seal_core.config import RowsSection
from seal_core.domains.knowledge import DOMAIN
from seal_core.domains.problem_set import make_problem
from seal_core.domains.prompts import get_prompt, prompt_ids
from seal_core.domains.records import RawProblem, RawQuestion
from seal_core.domains.rows import build_rows, rows_digest
from seal_core.errors import InputError
from seal_core.fingerprint import make_id
from seal_core.published.forms import Article, Asked, Completion, LoraParams, Stats
from seal_core.rewards.aggregate import score_self_edits
from seal_core.rewards.graders import grade_all
from seal_core.rewards.reward import Accuracy
from seal_core.types import (
    NO_ADAPTATION,
    Adapter,
    Answer,
    Problem,
    Question,
    Score,
    SelfEdit,
    Split,
    TrainRow,
    round_condition,
)

GRADER = "published"
"""`grader` of the verdicts that come from the file."""

DECIMALS = 4
"""The published code rounds each repeat's accuracy before it averages and chooses."""

UNKNOWN = "unknown"
_CONDITION = round_condition(0)
_MARKER = re.compile(r"\nImplications:")


@dataclass(frozen=True)
class Source:
    """What holds for the whole file.

    Attributes:
        repeats: Times each self-edit was trained.
    """

    split: Split
    policy_id: str
    repeats: int
    lora: LoraParams
    rows: RowsSection


@dataclass(frozen=True)
class ArticleRows:
    """The rows of one article; `baseline` are the answers without an adapter."""

    problem: Problem
    self_edits: list[SelfEdit] = field(default_factory=list)
    adapters: list[Adapter] = field(default_factory=list)
    baseline: list[Answer] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    scores: list[Score] = field(default_factory=list)


def read_article(source: Source, article: Article, where: str) -> ArticleRows:
    """All rows of one article.

    Raises:
        InputError: its self-edits or repeats were not asked the same questions, a question's own
            answer would be graded wrong, or a self-edit has neither answers nor statistics of
            them; names the place.
    """
    asked_E_R_Q = [
        _by_repeat(completion, source.repeats, f"{where}.completions[{i}]")
        for i, completion in enumerate(article.completions)
    ]
    # The questions of the first self-edit that has any.
    first_Q = next((asked_R_Q[0] for asked_R_Q in asked_E_R_Q if any(asked_R_Q)), [])
    for i, asked_R_Q in enumerate(asked_E_R_Q):
        for r, asked_Q in enumerate(asked_R_Q):
            if any(asked_R_Q) and _texts(asked_Q) != _texts(first_Q):
                raise InputError(
                    f"{where}.completions[{i}]: repeat {r} has other questions than the first "
                    "repeat of the article's first self-edit: all must be asked the same ones"
                )
    rows = ArticleRows(_problem(source, article, first_Q, where))
    prompt_id = _prompt_id(article)
    for i, completion in enumerate(article.completions):
        edit = _edit(source, rows.problem, completion, i, prompt_id)
        _add_edit(rows, source, edit, completion, asked_E_R_Q[i])
    return rows


def _by_repeat(completion: Completion, repeats: int, where: str) -> list[list[Asked]]:
    if not completion.questions and completion.stats.adapter_mean is None:
        raise InputError(f"{where}: questions is empty, and stats has no adapter_mean instead")
    asked_R_Q: list[list[Asked]] = [[] for _ in range(repeats)]
    for i, asked in enumerate(completion.questions):
        if asked.rep >= repeats:
            raise InputError(
                f"{where}.questions[{i}].rep is {asked.rep}, but eval_times is {repeats}"
            )
        asked_R_Q[asked.rep].append(asked)
    return asked_R_Q


def _texts(asked_Q: list[Asked]) -> list[tuple[str, str]]:
    return [(asked.question, asked.answer) for asked in asked_Q]


def _problem(source: Source, article: Article, asked_Q: list[Asked], where: str) -> Problem:
    """The problem, with the ids that the same passage and questions have in a run of ours."""
    questions = tuple(RawQuestion(asked.question, (asked.answer,)) for asked in asked_Q)
    raw = RawProblem(where, article.title, article.context, questions)
    return make_problem(raw, DOMAIN, source.split)


def _prompt_id(article: Article) -> str:
    for prompt_id in prompt_ids("edit"):
        if get_prompt(prompt_id).render(article.title, article.context).text == article.prompt:
            return prompt_id
    return UNKNOWN


def _edit(
    source: Source, problem: Problem, completion: Completion, index: int, prompt_id: str
) -> SelfEdit:
    return SelfEdit(
        self_edit_id=make_id(
            "edit", GRADER, problem.problem_id, source.policy_id, prompt_id, index, completion.text
        ),
        problem_id=problem.problem_id,
        split=source.split,
        condition=_CONDITION,
        policy_id=source.policy_id,
        sample_index=index,
        prompt_id=prompt_id,
        text=completion.text,
        n_tokens=None,
        logprob=None,
        finish_reason=UNKNOWN,
        seed=None,
        unusable=None,
        error=None,
    )


def _add_edit(
    rows: ArticleRows,
    source: Source,
    edit: SelfEdit,
    completion: Completion,
    asked_R_Q: list[list[Asked]],
) -> None:
    """Adds a self-edit with its adapters, answers, baseline answers and score."""
    adapters = list(_adapters(source, rows.problem, edit))
    answers, baseline = [], []
    for adapter, asked_Q in zip(adapters, asked_R_Q, strict=True):
        # The published code asked the unadapted policy again beside every training.
        time = edit.sample_index * source.repeats + adapter.repeat
        asked_about = rows.problem.questions if asked_Q else ()
        for question, asked in zip(asked_about, asked_Q, strict=True):
            answers.append(_answer(source, rows.problem, question, asked, adapter, adapter.repeat))
            baseline.append(_answer(source, rows.problem, question, asked, None, time))
    rows.self_edits.append(edit)
    rows.adapters.extend(adapters)
    rows.answers.extend(answers)
    rows.baseline.extend(baseline)
    # One self-edit at a time: its gain is over the baseline that was asked beside it.
    (score,) = score_self_edits([edit], answers, baseline, Accuracy(DECIMALS))
    told = not completion.questions
    rows.scores.append(_told(score, completion.stats, source.repeats) if told else score)


def _told(score: Score, stats: Stats, repeats: int) -> Score:
    """The score of a self-edit whose answers are not in the file, from their statistics."""
    before, after, sd = stats.baseline_mean, stats.adapter_mean, stats.adapter_std
    return replace(
        score,
        baseline_reward=before,
        reward=after,
        gain=None if before is None or after is None else after - before,
        uncertainty=None if sd is None or repeats < 2 else sd / math.sqrt(repeats),
        components={} if after is None else {"accuracy": after},
        n_repeats=repeats,
    )


def _adapters(source: Source, problem: Problem, edit: SelfEdit) -> Iterator[Adapter]:
    rows = _train_rows(source, problem, edit.text)
    for repeat in range(source.repeats):
        yield Adapter(
            adapter_id=make_id("adapter", edit.self_edit_id, source.lora.model_dump(), repeat),
            self_edit_id=edit.self_edit_id,
            problem_id=problem.problem_id,
            split=source.split,
            condition=_CONDITION,
            policy_id=source.policy_id,
            repeat=repeat,
            uri=None,
            sha256=None,
            rank=source.lora.rank,
            rows_sha256=rows_digest(rows) if rows else None,
            n_rows=len(rows) if rows else None,
            n_steps=optimizer_steps(source.lora, len(rows)) if rows else None,
            n_tokens=None,
            first_loss=None,
            final_loss=None,
            seed=None,
            error=None,
        )


def _train_rows(source: Source, problem: Problem, text: str) -> tuple[TrainRow, ...] | None:
    """The rows that the published code trained on; None where they are not known for certain.

    Later versions of that code use only what follows a line "Implications:", earlier ones all;
    without `split_newlines` it divides at dashes, where our builder takes the text as a whole.
    """
    if _MARKER.search(text) or (not source.rows.split_lines and "---" in text):
        return None
    return build_rows(problem, text, source.rows)


def optimizer_steps(lora: LoraParams, n_rows: int) -> int:
    """Those of a transformers `Trainer` with these settings."""
    batches = math.ceil(n_rows / lora.batch_size)
    return lora.epochs * math.ceil(batches / lora.grad_accum_steps)


def _answer(
    source: Source,
    problem: Problem,
    question: Question,
    asked: Asked,
    adapter: Adapter | None,
    repeat: int,
) -> Answer:
    """The answer with an adapter, or without one."""
    text = asked.baseline_answer if adapter is None else asked.adapter_answer
    condition = NO_ADAPTATION if adapter is None else _CONDITION
    answered_by = source.policy_id if adapter is None else adapter.adapter_id
    return Answer(
        answer_id=make_id("answer", GRADER, answered_by, question.question_id, condition, repeat),
        problem_id=problem.problem_id,
        question_id=question.question_id,
        split=source.split,
        condition=condition,
        policy_id=source.policy_id,
        adapter_id=None if adapter is None else adapter.adapter_id,
        self_edit_id=None if adapter is None else adapter.self_edit_id,
        repeat=repeat,
        text=text,
        correct=asked.baseline_correct if adapter is None else asked.adapter_correct,
        grades=asdict(grade_all(text, question.gold)),
        logprob=None,
        n_tokens=None,
        reference_logprob=None,
        reference_tokens=None,
        grader=GRADER,
        error=None,
    )
