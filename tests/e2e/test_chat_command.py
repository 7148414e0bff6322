"""Instruct runs as typed, on a tiny model with a chat template.

1. A run works, and `seal show --prompt` shows the template around prompts and rows, as tokens.
2. A template that cannot be used is refused in one line, before anything is written.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.chat_templates import TEMPLATES, UNUSABLE, save_chat_model
from tests.e2e.test_command import DEMO, SEAL, seal

INSTRUCT = [
    *("--set", "model.path=model", "--set", "rows.variant=instruct", "--set", "run.rounds=0"),
    *("--set", "sample.max_tokens=16", "--set", "evaluate.max_tokens=4"),
    *("--set", "sample.prompt=implications@1", "--set", "evaluate.prompt=answer@1"),
    *("--set", "evaluate.context_prompt=answer-in-context@1"),
]


def test_an_instruct_run_and_its_prompts(tmp_path: Path) -> None:
    """1"""
    save_chat_model(tmp_path / "model", TEMPLATES["turns"])
    seal(*DEMO, *INSTRUCT, cwd=tmp_path)
    ids = "SELECT problem_id, self_edit_id FROM self_edits"
    (first, *_) = json.loads(seal("sql", ids, "--format", "json", cwd=tmp_path))
    problem = first["problem_id"]
    edit, asked, in_context, row = json.loads(
        seal("show", problem, "--prompt", "--json", cwd=tmp_path)
    )
    for view in (edit, asked, in_context):
        assert view["text"].startswith("<|im_start|>system\nBe helpful.<|im_end|>\n")
        assert view["tokens"][-11:] == ["<|im_start|>", *"assistant", "\n"]
        assert len(view["ids"]) == len(view["tokens"]) == view["n_context"]
    assert row["tokens"][-1] == "<|im_end|>" and row["tokens"].count("<|im_end|>") == 3
    shown = seal("show", problem, "--prompt", cwd=tmp_path)
    assert "a|n|t|\\n ⟶ " in shown and shown.rstrip().endswith("|<|im_end|>")
    assert "problem-…" in refused(["show", first["self_edit_id"], "--prompt"], tmp_path)


@pytest.mark.parametrize("kind", ["no end", "another opening"])
def test_a_template_that_cannot_be_used_stops_a_run_before_work(tmp_path: Path, kind: str) -> None:
    """2"""
    template, reason = UNUSABLE[kind]
    save_chat_model(tmp_path / "model", template)
    assert reason in refused([*DEMO, *INSTRUCT], tmp_path)
    assert not (tmp_path / "seal-store").exists()


def refused(arguments: list[str], cwd: Path) -> str:
    done = subprocess.run(
        [*SEAL, *arguments], cwd=cwd, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    return done.stderr
