"""A whole run where every path has every odd character: the command as typed.

1. Config, data, model and store lie in such a folder; a run, its results, SQL and compaction work.
2. Nothing is left beside them: no library took a part of a path for the whole.
3. A folder whose name is not UTF-8 is refused by name.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.test_command import ROOT, SEAL, seal
from tests.models import save_qwen2
from tests.waiting import HUNG

pytestmark = pytest.mark.long

# `[/a]` over two levels: what rich would take for the end of a style.
NAMES = ("round=3", "run=x #1? [", "a]* {b,c}", '~it\'s "é😀" 100%', "$HOME a::b \\ :memory:")
STORE = "?mode=memory/s😀"
RUN = ["run", "my [b]?.toml", "--store", STORE]


def _write_data(folder: Path) -> None:
    folder.mkdir()
    rows = [
        {
            "title": f"Town {i}",
            "context": f"Town {i} was founded in {1900 + i}.",
            "question": f"When was town {i} founded?",
            "answers": {"text": [str(1900 + i)], "answer_start": [0]},
        }
        for i in range(3)
    ]
    (folder / "train [1].jsonl").write_text("\n".join(map(json.dumps, rows)))


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder, with a finished run in it."""
    folder = tmp_path_factory.mktemp("odd").joinpath(*NAMES)
    folder.mkdir(parents=True)
    _write_data(folder / "-data [c]*")
    save_qwen2(folder / "-model [d]?")
    settings = {
        "data.source": "dataset",
        "data.path": "-data [c]*",
        "model.path": "-model [d]?",
        "sample.edits_per_problem": "1",
        "sample.max_tokens": "16",
        "finetune.epochs": "1",
        "finetune.repeats": "1",
        "heldout.controls": "false",
    }
    config = (ROOT / "configs/squad.toml").read_text()
    (folder / "my [b]?.toml").write_text(config)
    for key, value in settings.items():
        RUN.extend(("--set", f"{key}={value}"))
    with pytest.MonkeyPatch.context() as patch:
        # As for a user, Prefect's database is then in the store.
        patch.delenv("PREFECT_HOME")
        assert "Held-out accuracy, run squad" in seal(*RUN, cwd=folder)
    return folder


def test_a_run_and_its_results(odd: Path) -> None:
    """1"""
    where = ("--store", STORE)
    report = json.loads(seal("results", "squad", "--json", *where, cwd=odd))
    assert {row["condition"] for row in report["conditions"]} >= {"round_0", "round_1"}
    assert "finetune round_0" in seal("status", *where, cwd=odd)
    counts = "SELECT run, round, count(*) AS n FROM answers GROUP BY ALL ORDER BY round"
    before = seal("sql", counts, "--format", "json", *where, cwd=odd)
    assert {row["run"] for row in json.loads(before)} == {"squad"}
    assert {row["round"] for row in json.loads(before)} == {-1, 0, 1}
    assert "0 of" in seal("plan", *RUN[1:], cwd=odd)
    seal("compact", *where, cwd=odd)
    assert seal("sql", counts, "--format", "json", *where, cwd=odd) == before
    assert "Held-out accuracy, run squad" in seal(*RUN, cwd=odd)
    assert "all whole" in seal("verify", *where, cwd=odd)
    assert "is writable" in seal("doctor", *where, cwd=odd)


def test_nothing_lies_beside(odd: Path) -> None:
    """2"""
    folder = odd
    for name in reversed(NAMES):
        assert [entry.name for entry in folder.parent.iterdir()] == [name]
        folder = folder.parent
    made = {entry.name for entry in odd.iterdir()}
    assert made == {"-data [c]*", "-model [d]?", "my [b]?.toml", "?mode=memory"}
    assert (odd / STORE / "_prefect/prefect.db").stat().st_size > 0


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    """3"""
    bad = os.fsencode(tmp_path) + b"/\xff"
    os.mkdir(bad)
    config = str(ROOT / "configs/demo.toml")
    copy = bad + b"/demo.toml"
    shutil.copy(config, copy)
    for command in (
        ["run", copy],
        ["run", config, "--store", bad],
        ["run", config, "--set", b"model.path=" + bad],
        ["run", config, "--set", b"data.source=squad", "--set", b"data.path=" + bad + b"/d.json"],
        ["status", "--store", bad],
        ["model", "check", bad],
    ):
        done = subprocess.run(
            [*SEAL, *command],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=HUNG,
            check=False,
        )
        assert done.returncode == 2, done.stderr
        assert done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
        assert "UTF-8" in done.stderr or "unicode" in done.stderr, done.stderr
    assert [entry.name for entry in tmp_path.iterdir()] == [os.fsdecode(b"\xff")]
