"""Fixtures of the domain tests: the shared real data, and small files in SQuAD form."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from seal_core.types import Problem, Question


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real data, beside the repository or where SEAL_TEST_DATA says."""
    default = Path(__file__).parents[3].parent / "shared" / "data"
    folder = Path(os.environ.get("SEAL_TEST_DATA", default))
    if not folder.is_dir():
        pytest.skip("the shared data is not here: set SEAL_TEST_DATA to its folder")
    return folder


@pytest.fixture
def write(tmp_path: Path):
    """Writes a value as JSON, or a text as it is, and returns the path as text."""

    def _write(name: str, value: Any) -> str:
        path = tmp_path / name
        path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
        return str(path)

    return _write


def flat(i: int, n_questions: int = 2) -> dict[str, Any]:
    """Passage `i` in the flat form."""
    return {
        "title": f"Title {i}",
        "context": f"Passage number {i} says things.",
        "questions": [
            {"question": f"What is {i}.{q}?", "answer": f"thing {i}.{q}"}
            for q in range(n_questions)
        ],
    }


@pytest.fixture
def flat_rows() -> list[dict[str, Any]]:
    """Eight passages in the flat form."""
    return [flat(i) for i in range(8)]


@pytest.fixture
def problem() -> Problem:
    """One problem with braces in its passage."""
    return Problem(
        "problem-1",
        "knowledge",
        "train",
        "Sets {title}",
        " A set {1, 2} has {context} and {question}. ",
        (Question("question-1", "What is in {it}?", ("1 and 2",)),),
    )
