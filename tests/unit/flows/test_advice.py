"""Advice: what looks wrong is told with the setting to change, and nothing else is.

1. Before a run: a chat template that is not used, few held-out problems, more tokens than fit.
2. After it: a passage in view that does not help, edits of no use, cut or echoed, rewards of 0,
   long answers that count.
3. A run without fault gets none.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flows.views.advice import advice_of
from seal_core.config import Config
from seal_core.domains.base import ProblemSet, new_problem
from seal_core.types import IN_CONTEXT, Advice
from storage.runs.registry import register_run
from storage.sql.catalog import Catalog
from storage.store import Store
from tasks.opening.setup_advice import advice_before
from tests.unit.storage.rows import ANSWER, EDIT, PICK, PROBLEM, QUESTION, SCORE, many, put

FEW = tuple(new_problem("d", "heldout", f"T{i}", "C", [("Q?", ["A"])]) for i in range(19))
MANY = ProblemSet((), (*FEW, new_problem("d", "heldout", "T", "C", [("Q?", ["A"])])))


def before(folder: Path, problems: ProblemSet = MANY, **sections: Any) -> list[str]:
    config = Config.model_validate(sections)
    return [advice.setting for advice in advice_before(config, str(folder), problems)]


def test_before_a_run(tmp_path: Path) -> None:
    """1, 3"""
    (tmp_path / "config.json").write_text(json.dumps({"max_position_embeddings": 512}))
    short = {"max_tokens": 100}
    assert before(tmp_path, sample=short) == []
    assert before(tmp_path) == ["sample.max_tokens"]
    assert before(tmp_path, ProblemSet((), FEW), sample=short) == ["data.heldout_limit"]
    (tmp_path / "tokenizer_config.json").write_text('{"chat_template": "{{ messages }}"}')
    assert before(tmp_path, sample=short) == ["rows.variant"]
    assert before(tmp_path, sample=short, rows={"variant": "instruct"}) == []


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.open(str(tmp_path / "store"))
    register_run(store, "r", {"run": {"seed": 0}}, 5)
    put(store, "problems", [replace(PROBLEM, context="One. Two.")], -1)
    put(store, "questions", [replace(QUESTION, gold=("yes", "oh yes"))], -1)
    return store


def found(store: Store) -> list[tuple[str, str]]:
    with Catalog(store) as catalog:
        return [(item.setting, item.text) for item in advice_of(catalog, "r")]


def test_a_run_without_fault(store: Store) -> None:
    """3"""
    put(store, "self_edits", many(EDIT, [{"self_edit_id": f"e{i}"} for i in range(10)]))
    put(store, "scores", [SCORE])
    put(store, "selections", [PICK])
    right = replace(ANSWER, condition=IN_CONTEXT, split="heldout", grader="contains")
    put(store, "answers", many(right, [{"answer_id": f"a{i}"} for i in range(9)]), -1)
    assert found(store) == []


def test_after_a_run(store: Store) -> None:
    """2"""
    edits = [{"self_edit_id": f"e{i}"} for i in range(10)]
    edits[0] |= {"unusable": "blank"}
    edits[1] |= {"unusable": "blank", "text": ""}
    edits[2] |= {"finish_reason": "length"}
    edits[3] |= {"finish_reason": "length"}
    edits[4] |= {"text": " Two. "}
    edits[5] |= {"text": "One. Two."}
    put(store, "self_edits", many(EDIT, edits))
    put(store, "scores", many(SCORE, [{}, {"self_edit_id": "e1", "reward": 0.0}]))
    put(store, "selections", many(PICK, [{}, {"self_edit_id": "e1", "reward": 0.0}]))
    wrong = replace(ANSWER, condition=IN_CONTEXT, split="heldout", correct=False)
    put(
        store,
        "answers",
        many(wrong, [{"answer_id": f"a{i}", "problem_id": f"p{i}"} for i in range(5)]),
        -1,
    )
    long = replace(ANSWER, split="heldout", grader="contains", text="well yes " * 4)
    put(store, "answers", [long, replace(long, answer_id="a9", text="a b c d e yes")])
    put(store, "advice", [Advice("rows.variant", "told before")], -1)
    told = found(store)
    assert [setting for setting, _ in told] == [
        "rows.variant",
        "evaluate.context_prompt",
        "sample.prompt",
        "sample.max_tokens",
        "sample.prompt",
        "selection.min_gain",
        "evaluate.grader",
    ]
    texts = " ".join(text for _, text in told)
    for words in (
        "accuracy is 0.00",
        "2 of 10 self-edits teach nothing",
        "2 of 10 self-edits were cut",
        "2 of 10 self-edits are parts of their passages",
        "1 of 2 kept self-edits have the reward 0",
        "1 of 2 correct answers",
    ):
        assert words in texts
