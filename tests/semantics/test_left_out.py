"""What a run leaves out of its data is shown before it starts, and stored with it.

1. A run and its plan tell how many problems and questions, why, and the first places.
2. `left_out` holds every one of them; it belongs to no cached result.
3. A source that loses such rows later repeats no work, and the table follows it.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app
from tests.semantics.conftest import Runner
from tests.semantics.runs import N_HELDOUT, N_TRAIN, ROOT, ask
from tests.semantics.scripted import write_problems

N_MORE = 4
LINES = [
    "left out 1 question: the source says that they have no answer "
    "(data.json: row 1: questions[2])",
    "left out 1 question: asked before about the same passage, where their answers are accepted "
    "too (data.json: row 2: questions[2])",
    f"left out {N_MORE} problems: beyond data.limit = {N_TRAIN + N_HELDOUT} (data.json: row 9; "
    "data.json: row 10; data.json: row 11; …)",
]
ALL = "SELECT unit, place, text, reason FROM left_out WHERE run = 'a' ORDER BY ALL"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A source with more than the run takes."""
    path = tmp_path / "data.json"
    write_problems(path, N_TRAIN + N_HELDOUT + N_MORE)
    rows = json.loads(path.read_text())
    rows[0]["questions"].append({"question": "Why?", "answers": [], "is_impossible": True})
    rows[1]["questions"].append(rows[1]["questions"][0])
    path.write_text(json.dumps(rows))
    return path


def limited(path: Path) -> dict[str, str | int]:
    return {"data__path": str(path), "data__limit": N_TRAIN + N_HELDOUT}


def test_left_out_is_told_and_stored(run: Runner, store: Path, data: Path) -> None:
    """1, 2"""
    first = run(**limited(data))
    assert run.notes[:3] == LINES
    found = ask(store, ALL)
    assert [(unit, place) for unit, place, _, reason in found if "limit" in reason] == [
        ("problem", f"data.json: row {i}") for i in (10, 11, 12, 9)
    ]
    assert [(place, text) for unit, place, text, _ in found if unit == "question"] == [
        ("data.json: row 1: questions[2]", "Why?"),
        ("data.json: row 2: questions[2]", "What is the code of P1?"),
    ]
    assert first.trained
    rows = json.loads(data.read_text())
    data.write_text(json.dumps(rows[: N_TRAIN + N_HELDOUT + 1]))
    again = run(**limited(data))
    assert (again.generated, again.trained) == ([], [])
    assert "left out 1 problem: beyond data.limit" in run.notes[2]
    assert len(ask(store, ALL)) == 3


def test_the_table_follows_its_source(run: Runner, store: Path, data: Path) -> None:
    """3"""
    run(**limited(data))
    write_problems(data, N_TRAIN + N_HELDOUT)
    again = run(**limited(data))
    assert (again.generated, again.trained) == ([], [])
    assert ask(store, ALL) == []


def test_a_plan_tells_what_is_left_out(store: Path, inputs: Path, data: Path) -> None:
    """1"""
    values = {"data.path": data, "data.limit": N_TRAIN + N_HELDOUT, "execution.store": store}
    values["model.path"] = inputs / "model"
    settings = [part for k, v in values.items() for part in ("--set", f"{k}={v}")]
    command = ["plan", str(ROOT / "configs/squad.toml"), *settings]
    told = CliRunner().invoke(app, command)
    assert told.exit_code == 0 and all(line in told.stdout for line in LINES)
    told = CliRunner().invoke(app, [*command, "--json"])
    assert json.loads(told.stdout)["left_out"] == LINES
