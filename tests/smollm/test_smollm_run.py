"""A whole small run of the real model on real passages, by the command as typed.

1. configs/smollm.toml with a turn of ReST-EM on few SQuAD passages: every condition is measured, no
   unit fails, the store verifies, and the same command answers from the cache.
2. A quantized copy of the model is refused in one line, and nothing is written.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_command import ROOT, SQUAD, seal, tables

CONDITIONS = {
    *("no_adaptation", "input_only", "input_only_matched", "in_context"),
    *("round_0", "round_1"),
}


def few(model: str) -> list[str]:
    """The command of a run that takes a minute or two on one core."""
    settings = {
        "model.path": model,
        "data.path": str(SQUAD),
        "data.heldout_path": str(SQUAD.with_name("val100.json")),
        "data.limit": 1,
        "data.heldout_limit": 2,
        "data.max_questions": 1,
        "run.rounds": 1,
        "sample.edits_per_problem": 2,
        "sample.max_tokens": 40,
        "finetune.epochs": 1,
        "evaluate.max_tokens": 16,
        "execution.workers": 1,
    }
    sets = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    return ["run", str(ROOT / "configs/smollm.toml"), *sets]


def rows(folder: Path, query: str) -> list[dict[str, Any]]:
    return json.loads(seal("sql", query, "--format", "json", cwd=folder))


@pytest.mark.skipif(not SQUAD.exists(), reason="the shared SQuAD files are not here")
def test_a_run_on_squad_passages(
    model_path: str, tmp_path: Path, compared: Callable[[str], None]
) -> None:
    """1"""
    results = json.loads(seal(*few(model_path), "--json", cwd=tmp_path))
    conditions = {row["condition"]: row for row in results["conditions"]}
    assert set(conditions) == CONDITIONS
    assert {row["n"] for row in conditions.values()} == {2}
    for table in ("self_edits", "adapters", "answers"):
        errors = f"SELECT count(*) n FROM {table} WHERE error IS NOT NULL"
        assert rows(tmp_path, errors) == [{"n": 0}], table
    losses = rows(tmp_path, "SELECT first_loss, final_loss FROM adapters WHERE n_steps > 0")
    assert len(losses) == 10
    assert all(0 < loss < 8 for row in losses for loss in row.values())
    texts = rows(tmp_path, "SELECT text FROM self_edits WHERE text <> ''")
    assert len({row["text"] for row in texts}) > 3
    assert not [row for row in texts if "<|im_" in row["text"]]
    seal("verify", cwd=tmp_path)
    before = tables(tmp_path / "seal-store")
    assert json.loads(seal(*few(model_path), "--json", cwd=tmp_path)) == results
    assert tables(tmp_path / "seal-store") == before
    compared("a run on SQuAD passages and the same again from the cache: equal")


def test_a_quantized_copy_is_refused_in_one_line(model_path: str, tmp_path: Path) -> None:
    """2"""
    copy = tmp_path / "quantized"
    shutil.copytree(model_path, copy, ignore=lambda *_: ["model.safetensors"])
    (copy / "model.safetensors").touch()
    config = json.loads((copy / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (copy / "config.json").write_text(json.dumps(config))
    seal(*few(str(copy)), cwd=tmp_path, code=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["quantized"]
