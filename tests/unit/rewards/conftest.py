"""Fixtures of the reward tests: the published results of round 1 as rows of the pipeline."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from seal_core.types import Answer, SelfEdit


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real data, beside the repository or where SEAL_TEST_DATA says."""
    default = Path(__file__).parents[3].parent / "shared" / "data"
    folder = Path(os.environ.get("SEAL_TEST_DATA", default))
    if not folder.is_dir():
        pytest.skip("the shared data is not here: set SEAL_TEST_DATA to its folder")
    return folder


@pytest.fixture(scope="session")
def published(shared_data: Path) -> list[dict[str, Any]]:
    """The 50 published articles of round 1, with 5 self-edits and 3 repeats each."""
    path = shared_data / "published" / "train_round1.json"
    return json.loads(path.read_text("utf-8"))["articles"]


def make_edit(problem: str, sample: int, text: str = "text", error: str | None = None) -> SelfEdit:
    """A self-edit of the base policy in round 0."""
    return SelfEdit(
        self_edit_id=f"{problem}/{sample}",
        problem_id=problem,
        split="train",
        condition="round_0",
        policy_id="policy-base",
        sample_index=sample,
        prompt_id="implications@1",
        text=text,
        n_tokens=1,
        logprob=-1.0,
        finish_reason="stop",
        seed=0,
        unusable=None,
        error=error,
    )


def make_answer(
    problem: str,
    sample: int | None,
    repeat: int,
    correct: bool | None,
    error: str | None = None,
    policy: str = "policy-base",
) -> Answer:
    """An answer of an adapter, or with `sample` None of the baseline."""
    edit = None if sample is None else f"{problem}/{sample}"
    grade = None if correct is None else float(correct)
    return Answer(
        answer_id="answer",
        problem_id=problem,
        question_id="question",
        split="train",
        condition="no_adaptation" if edit is None else "round_0",
        policy_id=policy,
        adapter_id=edit and f"{edit}/{repeat}",
        self_edit_id=edit,
        repeat=repeat,
        text=None if error else "text",
        correct=correct,
        grades=None if grade is None else {"exact_match": grade},
        logprob=None,
        n_tokens=1,
        reference_logprob=None,
        reference_tokens=None,
        grader="exact_match",
        error=error,
    )


@pytest.fixture
def edit():
    """See `make_edit`."""
    return make_edit


@pytest.fixture
def answer():
    """See `make_answer`."""
    return make_answer


@pytest.fixture(scope="session")
def published_rows(published) -> tuple[list[SelfEdit], list[Answer], list[Answer]]:
    """The published results as self-edits, answers and baseline answers."""
    edits, answers, baseline = [], [], []
    for p, article in enumerate(published):
        problem = f"problem-{p:02d}"
        for e, completion in enumerate(article["completions"]):
            edits.append(make_edit(problem, e, completion["text"]))
            for asked in completion["questions"]:
                rep = asked["rep"]
                answers.append(make_answer(problem, e, rep, asked["adapter_correct"]))
                baseline.append(make_answer(problem, None, rep, asked["baseline_correct"]))
    return edits, answers, baseline
