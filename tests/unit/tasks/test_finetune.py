"""The finetune stage records which rows each adapter was trained on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from seal_core.config import Config
from seal_core.domains.knowledge import KnowledgeDomain
from seal_core.domains.rows import build_rows, rows_digest
from seal_core.errors import StageError
from seal_core.stages import Place
from seal_core.types import Problem
from storage.store import Store
from tasks.context import RunContext
from tasks.stages.finetune import FINETUNE, _finetune, matched_steps
from tasks.stages.lora import all_targets, finetune_settings
from tasks.work import Work
from tests.semantics.scripted import Scripted
from tests.unit.storage.rows import ADAPTER, EDIT, POLICY, PROBLEM, QUESTION, put


class Silent:
    """Progress that nobody sees."""

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: None


def test_the_digest_of_the_rows_is_that_of_what_was_trained_on(tmp_path: Path) -> None:
    store, config = Store.open(str(tmp_path / "store")), Config()
    edits = [
        replace(EDIT, self_edit_id=f"e{i}", text=text, error=error)
        for i, (text, error) in enumerate(
            [("One.\nTwo.", None), ("Broken.", None), ("", "wrote nothing"), ("One.\nTwo.", None)]
        )
    ]
    work = Work.build(
        FINETUNE,
        Place("round_0", "round_0", 0),
        0,
        settings={
            "lora": finetune_settings(config.finetune),
            "rows": config.rows.model_dump(mode="json"),
            "repeats": 2,
        },
        inputs={
            "problems": [put(store, "problems", [PROBLEM], -1)],
            "questions": [put(store, "questions", [QUESTION], -1)],
            "policy": [put(store, "policies", [POLICY], -1)],
            "self_edits": [put(store, "self_edits", edits)],
        },
        model_digest="",
    )
    engine = Scripted(fails="Broken")
    domain = KnowledgeDomain.from_config(config)
    context = RunContext("r", config, "", "", domain, store, engine, engine, Silent())
    adapters = _finetune(context, work).rows["adapters"]

    problem = Problem("p0", "knowledge", "train", PROBLEM.title, PROBLEM.context, ())
    expected = [rows_digest(build_rows(problem, edit.text, config.rows)) for edit in edits]
    expected[2] = None
    assert [a.rows_sha256 for a in adapters] == [digest for digest in expected for _ in range(2)]
    assert [a.error is None for a in adapters] == [True] * 2 + [False] * 4 + [True] * 2
    assert expected[0] == expected[3] and len(set(expected)) == 3


def test_adapters_without_counts_cannot_be_matched() -> None:
    assert matched_steps(replace(ADAPTER, n_steps=2, n_tokens=20), ADAPTER) == 4
    with pytest.raises(StageError, match="d0 has no count"):
        matched_steps(replace(ADAPTER, n_tokens=None), ADAPTER)


def test_the_model_is_tried_with_all_that_the_run_trains() -> None:
    assert all_targets(Config()) == ("all-linear",)
    published = Config.model_validate({"finetune": {"published": True}})
    assert all_targets(published) == ("all-linear", "q_proj", "v_proj")
    named = Config.model_validate({"finetune": {"targets": ["foo"]}})
    assert all_targets(named) == ("all-linear", "foo")  # Which would hide what the model lacks.
