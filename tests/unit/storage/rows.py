"""Small rows for the storage tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from seal_core.fingerprint import digest
from seal_core.types import (
    Adapter,
    Answer,
    ContinualAccuracy,
    Policy,
    Score,
    Selection,
    SelfEdit,
)
from storage.tables.store_rows import ProblemRow, QuestionRow, StageRow

EDIT = SelfEdit(
    "e0", "p0", "train", "round_0", "pi0", 0, "x@1", "A.\nB.", 4, -1.5, "stop", 7, None, None
)
ANSWER = Answer(
    "a0", "p0", "q0", "train", "round_0", "pi0", "d0", "e0", 0, "yes", True,
    {"contains": 1.0, "exact_match": 1.0, "f1": 1.0}, -0.5, 2, None, None, "exact_match", None,
)  # fmt: skip
SCORE = Score(
    "e0", "p0", "train", "round_0", "pi0", 0, None, "accuracy", 0.5, 0.75, 0.25, None,
    {"accuracy": 0.75}, 1, 4, 0,
)  # fmt: skip
PICK = Selection("e0", "p0", "pi0", True, 0, 0.75, "best_of_k", "best")
POLICY = Policy("pi0", None, "minilm", "abc", None, None, 0, 0, None)
PROBLEM = ProblemRow("p0", "knowledge", "train", "Title", "Passage.", 1)
QUESTION = QuestionRow("q0", "p0", "train", 0, "Q?", ("yes", "ja"))
ADAPTER = Adapter(
    "d0", "e0", "p0", "train", "round_0", "pi0", 0, None, None, 8, "rows", 2, 4, 40,
    2.0, 1.0, 5, None,
)  # fmt: skip
CONTINUAL = ContinualAccuracy("pi0", 1, 0, 0.5, 0.25, 4)
STAGE = StageRow(
    "sample", "round_0", digest(1), 0, "2026-01-01T00:00:00.000+00:00",
    "2026-01-01T00:00:02.000+00:00", 2.0, 4, 1, 100, "cpu",
    "host", 1, 1, "{}", None,
)  # fmt: skip


def put(store: Any, table: str, rows: list[Any], round_index: int = 0, run: str = "r") -> Any:
    """Writes rows as a part named by their content."""
    name = digest([table, round_index, [str(row) for row in rows]])
    return store.write_part(table, rows, run=run, round_index=round_index, slot=name)


def many(row: Any, changes: list[dict[str, Any]]) -> list[Any]:
    """Copies of a row, each with its changes."""
    return [replace(row, **change) for change in changes]
