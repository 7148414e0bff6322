"""Chat models as typed: a run with `rows.variant = "instruct"`, and what its model reads.

1. A whole run on a chat model whose turns and texts end at different tokens.
2. `seal show PROBLEM --prompt` shows every prompt and row in the model's tokens, and refuses if the
   model is another one by now.
3. A template that cannot be used ends in one line before anything is written.
4. Another date or thinking is another run, and what it concerns is done again.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.chat_models import chat_tokenizer, save_chat_model
from tests.e2e.test_command import DEMO, seal
from tests.typed import ask

INSTRUCT = ["--set", "rows.variant=instruct", "--set", "run.rounds=0"]
SHORT = ["--set", "sample.max_tokens=8", "--set", "evaluate.max_tokens=4"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chat")
    model = save_chat_model(folder / "model", "dated")
    seal(*DEMO, *INSTRUCT, *SHORT, "--set", f"model.path={model}", cwd=folder)
    return folder


def test_a_run_of_a_chat_model_trains_and_answers(folder: Path) -> None:
    """1"""
    sql = "SELECT count(*) n, count(error) errors FROM adapters"
    (found,) = json.loads(ask("sql", sql, "--format", "json", cwd=folder))
    assert found["n"] > 0 and found["errors"] == 0


def test_what_the_model_reads_can_be_seen(folder: Path) -> None:
    """2"""
    sql = "SELECT problem_id FROM problems ORDER BY problem_id LIMIT 1"
    (problem,) = json.loads(ask("sql", sql, "--format", "json", cwd=folder))
    command = ["show", problem["problem_id"], "--prompt"]
    found = json.loads(ask(*command, "--json", cwd=folder))
    assert (found["run"], found["model"]) == ("demo", str(folder / "model"))
    views = found["prompts"]
    assert [view["what"].split(" ")[0] for view in views] == [
        "self-edit",
        "question",
        "question",
        "training",
    ]
    tokenizer = chat_tokenizer("dated")
    for view in views:
        ids = [token["id"] for token in view["tokens"]]
        assert tokenizer.decode(ids) == view["text"]
        assert view["text"].startswith("<s><|head|>system<|/head|>\n\nToday: 26 Jul 2024\n")
    *prompts, row = views
    assert all(view["n_context"] == len(view["tokens"]) for view in prompts)
    assert [end["token"] for end in prompts[0]["ends"]] == ["</s>", "<|eot|>"]
    assert row["tokens"][-1] == {
        "id": tokenizer.convert_tokens_to_ids("<|eot|>"),
        "token": "<|eot|>",
        "control": True,
    }
    assert "<|head|>user<|/head|>\n\nTell me " in row["text"]
    shown = ask(*command, cwd=folder)
    assert shown.startswith(f"run demo, model {folder / 'model'}\n")
    assert "⟦<|head|>⟧" in shown and "ends at: ⟦</s>⟧ ⟦<|eot|>⟧" in shown
    edits = "SELECT self_edit_id FROM self_edits WHERE condition = 'round_0' LIMIT 1"
    (edit,) = json.loads(ask("sql", edits, "--format", "json", cwd=folder))
    of_edit = json.loads(ask("show", edit["self_edit_id"], "--prompt", "--json", cwd=folder))
    assert [view["what"] for view in of_edit["prompts"]][-1].startswith("training row")
    (adapter,) = json.loads(
        ask("sql", "SELECT adapter_id FROM adapters LIMIT 1", "--format", "json", cwd=folder)
    )
    ask("show", adapter["adapter_id"], "--prompt", cwd=folder, code=2)


def test_another_model_than_the_runs_is_not_shown(folder: Path) -> None:
    """2"""
    sql = "SELECT problem_id FROM problems LIMIT 1"
    (problem,) = json.loads(ask("sql", sql, "--format", "json", cwd=folder))
    command = ["show", problem["problem_id"], "--prompt"]
    file = folder / "model" / "tokenizer_config.json"
    saved = file.read_bytes()
    file.write_bytes(saved + b"\n")
    ask(*command, cwd=folder, code=2)
    file.write_bytes(saved)
    ask(*command, cwd=folder)


def test_a_template_that_cannot_be_used_is_refused_before_any_work(tmp_path: Path) -> None:
    """3"""
    model = save_chat_model(tmp_path / "model", "strict")
    command = [*DEMO, *INSTRUCT, "--set", f"model.path={model}"]
    seal(*command, "--set", "chat.system=Be brief.", cwd=tmp_path, code=2)
    seal(*DEMO, *INSTRUCT, cwd=tmp_path, code=2)  # The embedded model has no template.
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.long
def test_what_the_template_is_told_is_a_part_of_the_run(folder: Path) -> None:
    """4"""
    command = ["plan", *DEMO[1:], *INSTRUCT, *SHORT, "--set", f"model.path={folder / 'model'}"]
    same = json.loads(ask(*command, "--json", cwd=folder))
    other = [*command, "--set", "chat.date=2025-01-01", "--name", "other", "--fork", "demo"]
    changed = json.loads(seal(*other, "--json", cwd=folder))

    def left(plan: dict) -> int:
        return sum(stage["shards"] - stage["cached"] for stage in plan["stages"])

    assert left(same) == 0 and left(changed) > 0
