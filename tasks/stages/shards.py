"""Reads the problems of a shard."""

from __future__ import annotations

from collections.abc import Sequence

from seal_core.types import Problem, Question, TableRef
from storage.store import Store
from storage.tables.store_rows import QuestionRow


def read_problems(
    store: Store, problems: Sequence[TableRef], questions: Sequence[TableRef]
) -> dict[str, Problem]:
    """Problems by id, with their questions, in the order they were stored."""
    by_problem: dict[str, list[QuestionRow]] = {}
    for ref in questions:
        for row in store.read(ref):
            by_problem.setdefault(row.problem_id, []).append(row)
    return {
        row.problem_id: Problem(
            problem_id=row.problem_id,
            domain=row.domain,
            split=row.split,
            title=row.title,
            context=row.context,
            questions=tuple(
                Question(q.question_id, q.prompt, tuple(q.gold))
                for q in by_problem.get(row.problem_id, [])
            ),
        )
        for ref in problems
        for row in store.read(ref)
    }
