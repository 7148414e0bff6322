"""Rows that only storage has: problems, questions, runs and stage executions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from seal_core.types import Problem, Split


@dataclass(frozen=True, slots=True)
class ProblemRow:
    """A `Problem` without its questions, which have a table of their own.

    Attributes:
        domain: Name of the domain that the problem comes from.
        title: Title of the passage; may be empty.
        context: The passage.
        n_questions: How many questions test the passage.
    """

    problem_id: str
    domain: str
    split: Split
    title: str
    context: str
    n_questions: int


@dataclass(frozen=True, slots=True)
class QuestionRow:
    """A `Question` and its place.

    Attributes:
        question_index: 0-based place among the questions of the problem.
        prompt: The bare question, without any template.
        gold: Accepted answers.
    """

    question_id: str
    problem_id: str
    split: Split
    question_index: int
    prompt: str
    gold: tuple[str, ...]


def problem_rows(problems: Sequence[Problem]) -> list[ProblemRow]:
    """The rows of `problems`, without their questions."""
    return [
        ProblemRow(p.problem_id, p.domain, p.split, p.title, p.context, len(p.questions))
        for p in problems
    ]


def question_rows(problems: Sequence[Problem]) -> list[QuestionRow]:
    """The rows of all their questions, in order."""
    return [
        QuestionRow(q.question_id, p.problem_id, p.split, i, q.prompt, q.gold)
        for p in problems
        for i, q in enumerate(p.questions)
    ]


@dataclass(frozen=True, slots=True)
class RunRow:
    """A named run and the config that the name stands for.

    Attributes:
        config_json: The config as canonical JSON, as it was when the run was registered.
        identity: Digest of the part of the config that may change a result.
        created_at: ISO 8601 in UTC; `created_at::TIMESTAMPTZ` in SQL.
        seal_version: Version of this package that registered the run.
        shard_size: Problems per shard; a resumed run keeps it.
        parent_run: The run that this one was forked from; None otherwise.
    """

    run: str
    config_json: str
    identity: str
    created_at: str
    seal_version: str
    shard_size: int
    parent_run: str | None


@dataclass(frozen=True, slots=True)
class StageRow:
    """One execution of one shard of a stage; cached shards are not executed and have no row.

    Several executions of one shard (`identity`) are work that was repeated: after a kill, a dead
    engine, or damage.

    Attributes:
        stage: `sample`, `finetune`, `evaluate`, `score`, `filter` or `update`.
        label: The stage as the user sees it, e.g. `finetune heldout round_0`.
        identity: Cache key of the shard; executions of the same work share it.
        shard: 0-based index of the shard in its stage.
        started_at, ended_at: ISO 8601 in UTC; `started_at::TIMESTAMPTZ` in SQL. No end where the
            process was killed, or the run was stopped.
        seconds: Wall time of the execution; None if it was killed.
        n_units: Rows the execution made; 0 if it failed.
        n_errors: Rows among them that carry an error.
        n_tokens: Tokens generated or trained on.
        n_reused: Rows among them that an earlier execution had made, with fewer self-edits or
            repeats; neither seconds nor tokens count them.
        device: Device as configured.
        attempt: 1 for the first try of a task run.
        versions: Versions of the packages that did the work, as JSON.
        error: None, or why the execution failed as a whole.
        engine: What computed with the model: `transformers`, or `vllm`, which only answers. None
            for stages without a model, and for executions of versions that did not record it.
        engine_version: Version of that library; of running servers as they said at the start.
        precision: Type of the model's weights.
    """

    stage: str
    label: str
    identity: str
    shard: int
    started_at: str
    ended_at: str | None
    seconds: float | None
    n_units: int
    n_errors: int
    n_tokens: int
    device: str
    host: str
    pid: int
    attempt: int
    versions: str
    error: str | None
    engine: str | None = None
    engine_version: str | None = None
    precision: str | None = None
    n_reused: int = 0
