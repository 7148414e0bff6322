"""Cuts problems into shards and stores them; every later stage follows these boundaries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from seal_core.types import CONTROL_ROUND, Problem, Question, TableRef
from storage.store import Store
from storage.tables.store_rows import QuestionRow, problem_rows, question_rows
from tasks.context import current


@dataclass(frozen=True)
class Shard:
    """A group of problems of one split, and the parts that hold them."""

    index: int
    problems: TableRef
    questions: TableRef

    @property
    def inputs(self) -> dict[str, list[TableRef]]:
        """The refs by role, as every stage takes them."""
        return {"problems": [self.problems], "questions": [self.questions]}


def store_shards(problems: Sequence[Problem], shard_size: int) -> list[Shard]:
    """Writes problems of one split in groups of `shard_size`; equal problems give equal parts."""
    groups = [problems[i : i + shard_size] for i in range(0, len(problems), shard_size)]
    return [_store_shard(i, group) for i, group in enumerate(groups)]


def _store_shard(index: int, problems: Sequence[Problem]) -> Shard:
    slot = f"{problems[0].split}/{index}"

    def put(table: str, rows: Sequence[object]) -> TableRef:
        return current().put_part(table, rows, round_index=CONTROL_ROUND, slot=slot)

    return Shard(
        index,
        put("problems", problem_rows(problems)),
        put("questions", question_rows(problems)),
    )


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
