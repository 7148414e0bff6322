"""`seal import` as typed, and every other command on what it imported.

1. Imported runs answer to results, status, show, sql and every view; what is missing is said.
2. The same file again prints the same; a used name, a wrong file and a bad name are one line.
3. The commands of docs/import.md, as written there, on the real files.
"""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from storage.sql.queries import list_queries
from tests.published_files import (
    PUBLISHED,
    continual_file,
    eval_file,
    pretraining_file,
    save,
    statistics_file,
    train_file,
)
from tests.typed import typed

ROOT = Path(__file__).parents[2]


def seal(*arguments: str, cwd: Path) -> str:
    done = typed(*arguments, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


def refused(*arguments: str, cwd: Path) -> str:
    done = typed(*arguments, cwd=cwd)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every kind of file, imported."""
    folder = tmp_path_factory.mktemp("import")
    for name, content in (
        ("train", train_file()),
        ("eval", eval_file()),
        ("statistics", statistics_file()),
        ("pretraining", pretraining_file()),
        ("continual", continual_file()),
    ):
        save(folder / f"{name}.json", content)
        for word in ("imported as", "there already, and checked:"):
            said = seal("import", f"{name}.json", cwd=folder)
            assert said.startswith(f"{word} run {name}; rows: ")
    return folder


def ids(folder: Path, sql: str) -> list[str]:
    rows = json.loads(seal("sql", sql, "--format", "json", cwd=folder))
    return [value for row in rows for value in row.values()]


def test_results_and_status(folder: Path) -> None:
    """1"""
    report = json.loads(seal("results", "eval", "--json", cwd=folder))
    assert [(c["condition"], c["mean"], c["n"]) for c in report["conditions"]] == [
        ("no_adaptation", 0.0, 2),
        ("round_0", 0.75, 2),
    ]
    assert "Held-out accuracy, run eval" in seal("results", "eval", cwd=folder)
    report = json.loads(seal("results", "pretraining", "--json", cwd=folder))
    assert report["paired"] == []
    found = [(c["condition"], round(c["mean"], 4), c["n"]) for c in report["conditions"]]
    assert found == [("no_adaptation", 0.3333, 1), ("continued_pretraining", 0.6667, 1)]
    assert "Paired" not in seal("results", "pretraining", cwd=folder)
    for name in ("train", "statistics", "continual"):
        assert "has no held-out answers" in refused("results", name, cwd=folder)
    status = seal("status", cwd=folder)
    names = {"train", "eval", "statistics", "pretraining", "continual"}
    assert all(name in status for name in names)
    assert "sample" not in status and "finetune" not in status
    assert json.loads(seal("status", "--json", cwd=folder)).keys() == names


def test_show(folder: Path) -> None:
    """1"""
    (kept,) = ids(
        folder,
        "SELECT self_edit_id FROM selections WHERE kept AND run = 'train' ORDER BY reward LIMIT 1",
    )
    shown = seal("show", kept, "--run", "train", cwd=folder)
    (told,) = ids(
        folder,
        "SELECT self_edit_id FROM selections WHERE kept AND run = 'statistics' ORDER BY 1 LIMIT 1",
    )
    assert "kept by best" in seal("show", told, "--run", "statistics", cwd=folder)
    for part in (
        "Training rows\n",
        "3 rows, 6 steps, no weights kept",
        "before 00",
        "kept by best",
    ):
        assert part in shown
    assert "before: 'before 000'" in shown and "rebuilt" not in shown
    (adapter,) = ids(folder, "SELECT adapter_id FROM adapters WHERE run = 'eval' LIMIT 1")
    assert "rank 4" in seal("show", adapter, cwd=folder)
    (problem,) = ids(folder, "SELECT problem_id FROM problems WHERE run = 'train' LIMIT 1")
    assert "Self-edits" in seal("show", problem, "--run", "train", cwd=folder)


@pytest.mark.long
def test_every_view(folder: Path) -> None:
    """1"""
    for query in list_queries():
        seal("sql", query.name, "--format", "csv", cwd=folder)


def test_again_and_what_is_refused(folder: Path) -> None:
    """2"""
    store = folder / "seal-store"
    before = {path: path.read_bytes() for path in store.rglob("*.parquet")}
    again = json.loads(seal("import", "train.json", "--json", cwd=folder))
    assert (again["run"], again["kind"], again["rows"]["answers"]) == ("train", "train", 32)
    assert "another file" in refused("import", "eval.json", "--name", "train", cwd=folder)
    (folder / "a b.json").write_text("{}")
    assert "with --name" in refused("import", "a b.json", cwd=folder)
    assert "none of 'articles'" in refused("import", "a b.json", "--name", "x", cwd=folder)
    assert "no such file" in refused("import", "none.json", cwd=folder)
    assert {path: path.read_bytes() for path in store.rglob("*.parquet")} == before


def test_nothing_is_written_for_a_wrong_file(tmp_path: Path) -> None:
    """2"""
    (tmp_path / "wrong.json").write_text('{"articles": [{"title": "T"}]}')
    assert "wrong.json: timestamp is missing" in refused("import", "wrong.json", cwd=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["wrong.json"]


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published files are not here")
def test_the_commands_of_the_docs(tmp_path: Path) -> None:
    """3"""
    for path in PUBLISHED.glob("*.json"):
        (tmp_path / path.name).symlink_to(path)
    text = (ROOT / "docs/import.md").read_text(encoding="utf-8")
    commands = re.findall(r"^    seal (.+)$", text, re.MULTILINE)
    printed = {command: seal(*shlex.split(command), cwd=tmp_path) for command in commands}
    assert len(printed) >= 5
    (headline,) = [out for command, out in printed.items() if "avg(reward)" in command]
    assert round(float(headline.split()[2]), 4) == 0.3968
