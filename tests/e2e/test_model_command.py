"""Models of other kinds, as typed: `seal model check`, and a run of one that is used slowly.

1. The check says how a model would be used, in one screen, and exits with 1 if it is refused.
2. A run on a model whose rows cannot share a batch works, and says that it is slow; so do
   `seal status` and `seal doctor`.
3. A run on a model that is refused ends in one line before any work, and leaves its name free.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.e2e.test_command import DEMO, SEAL, seal
from tests.families import save_family
from tests.waiting import HUNG

FAST = "fast: answers in batches, each row with its own adapters; trains many adapters at once"
SLOW = "right, but slow: answers one request at a time over generate() and PEFT"


@pytest.mark.parametrize(
    ("kind", "verdict"),
    [
        ("minilm", FAST),
        pytest.param("experts", FAST, marks=pytest.mark.long),
        pytest.param("recurrent", SLOW, marks=pytest.mark.long),
    ],
)
def test_a_check_is_one_screen(tmp_path: Path, kind: str, verdict: str) -> None:
    """1"""
    model = kind if kind == "minilm" else str(save_family(tmp_path / kind, kind))
    out = seal("model", "check", model, cwd=tmp_path)
    assert out.startswith(f"{model}: {verdict}")
    assert len(out.splitlines()) < 24
    found = json.loads(seal("model", "check", model, "--json", cwd=tmp_path))
    assert found["refused"] is None and found["comparisons"]
    assert (found["model"], found["dtype"], found["device"]) == (model, "float32", "cpu")
    assert found["digest"] and found["versions"]["peft"]
    assert ("there is none" if kind == "minilm" else "cannot be used") in found["chat_fault"]


def test_a_refusal_names_the_reason(tmp_path: Path) -> None:
    """1, 3"""
    model = str(save_family(tmp_path / "encoder", "encoder"))
    assert "refused: generate() answers from other logits" in seal(
        "model", "check", model, cwd=tmp_path, code=1
    )
    command = [*DEMO, "--set", f"model.path={model}", "--set", "run.rounds=0"]
    done = subprocess.run(
        [*SEAL, *command], cwd=tmp_path, capture_output=True, text=True, timeout=HUNG, check=False
    )
    assert done.returncode == 2 and "refused: generate() answers from" in done.stderr
    lines = [
        line for line in done.stderr.splitlines() if not line.startswith(("advice: ", "note: "))
    ]
    assert len(lines) == 1
    assert "no runs yet" in seal("status", cwd=tmp_path)
    assert "refuses the model" in seal("plan", *command[1:], cwd=tmp_path)
    assert "was not tried yet" in seal("plan", *DEMO[1:], cwd=tmp_path)


@pytest.mark.long
def test_a_run_on_a_slow_model_says_so(tmp_path: Path) -> None:
    """2"""
    model = str(save_family(tmp_path / "recurrent", "recurrent"))
    command = [*DEMO, "--set", f"model.path={model}", "--set", "run.rounds=0"]
    command += ["--set", "sample.max_tokens=16", "--set", "evaluate.max_tokens=4"]
    assert "Held-out accuracy, run demo" in seal(*command, cwd=tmp_path)
    for command in ("status", "doctor"):
        assert SLOW in " ".join(seal(command, cwd=tmp_path).split())
