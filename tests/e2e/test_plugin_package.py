"""A package adds a kind at most plug points; the commands of docs/plugins.md as typed."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.e2e.test_command import ROOT, seal
from tests.typed import ask

EXAMPLE = ROOT / "tests" / "plugin_example"
KINDS = ["--set", "engine.kind=library", "--set", "trainer.kind=one_by_one"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the package is installed, and the runs of its kinds are finished."""
    site, work = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("work")
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(site)]
    subprocess.run([*install, "--disable-pip-version-check", str(EXAMPLE)], check=True, timeout=300)
    (work / "example.toml").write_text((EXAMPLE / "example.toml").read_text())
    paths = [str(site), *filter(None, [os.environ.get("PYTHONPATH")])]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(paths))
        seal("run", "example.toml", cwd=work)
        seal("run", "example.toml", "--name", "other", "--set", "run.seed=1", *KINDS, cwd=work)
        yield work


def test_the_commands_of_the_page(folder: Path) -> None:
    page = (ROOT / "docs/plugins.md").read_text()
    block = page.split("<!-- commands -->")[1].split("```")[1]
    (edit, *_) = json.loads(
        ask("sql", "SELECT self_edit_id FROM best_edits", "--format", "json", cwd=folder)
    )
    typed = [shlex.split(line, comments=True) for line in block.strip().splitlines()]
    assert ["seal", "run", "example.toml"] in typed
    for words in typed:
        if words[0] == "seal":
            done = [edit["self_edit_id"] if word == "EDIT" else word for word in words[1:]]
            assert seal(*done, cwd=folder)


def test_what_the_package_has_is_used(folder: Path) -> None:
    listed = json.loads(seal("plugins", "--json", cwd=folder))
    mine = [f"{kind['point']}.{kind['name']}" for kind in listed if kind["package"]]
    assert mine == [
        "domain.inventory",
        "engine.library",
        "outer_loop.by_gain",
        "reward.concise",
        "trainer.one_by_one",
    ]
    score = json.loads(
        ask("sql", "SELECT * FROM scores WHERE split = 'train'", "--format", "json", cwd=folder)
    )[0]
    assert score["reward_name"] == "concise" and set(score["components"]) == {"accuracy", "cost"}
    answers = "SELECT DISTINCT map_keys(grades) AS names FROM answers"
    assert json.loads(ask("sql", answers, "--format", "json", cwd=folder)) == [
        {"names": ["agreement", "exact"]}
    ]
    rows = json.loads(
        ask("sql", "FROM self_edits WHERE condition = 'round_0'", "--format", "json", cwd=folder)
    )
    shown = seal("show", rows[0]["self_edit_id"], cwd=folder)
    assert "[1 " in shown and "Shelf " in shown and "cost" in shown
    assert json.loads(seal("show", rows[0]["self_edit_id"], "--json", cwd=folder))["score"]


def test_its_engine_and_trainer_are_proven_and_recorded(folder: Path) -> None:
    """They enter no cache key: what another engine made is taken over."""
    seal("run", "example.toml", "--name", "same", *KINDS, cwd=folder)
    made = (
        "SELECT run, stage, engine, engine_version FROM stages WHERE run IN ('same', 'other') "
        "AND engine IS NOT NULL GROUP BY ALL ORDER BY ALL"
    )
    rows = json.loads(ask("sql", made, "--format", "json", cwd=folder))
    here = version("transformers")
    assert [tuple(row.values()) for row in rows] == [
        ("other", "evaluate", "library", here),
        ("other", "finetune", "one_by_one", "1.0"),
        ("other", "sample", "library", here),
        ("other", "update", "transformers", here),
    ]


def test_a_change_of_its_options_is_planned(folder: Path) -> None:
    same = json.loads(seal("plan", "example.toml", "--json", cwd=folder))
    assert all(stage["cached"] == stage["shards"] for stage in same["stages"])
    other = json.loads(
        seal("plan", "example.toml", "--set", "reward.price=0.1", "--json", cwd=folder)
    )
    reasons = {stage["label"]: stage["reasons"] for stage in other["stages"]}
    assert reasons["score round_0"] == ["settings.reward.options.price: 0.0005 -> 0.1"]
    assert reasons["evaluate round_0"] == []


def test_without_the_package_the_history_stays(folder: Path, monkeypatch) -> None:
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join(os.environ["PYTHONPATH"].split(os.pathsep)[1:])
    )
    assert "example" in seal("status", cwd=folder)
    rows = json.loads(
        ask("sql", "FROM self_edits WHERE condition = 'round_0'", "--format", "json", cwd=folder)
    )
    assert "'inventory' is not known" in seal("show", rows[0]["self_edit_id"], cwd=folder)
    seal("run", "example.toml", cwd=folder, code=2)


def test_another_version_is_named_and_carries_nothing_out(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, *others = os.environ["PYTHONPATH"].split(os.pathsep)
    newer = Path(shutil.copytree(site, tmp_path / "site"))
    (metadata,) = newer.glob("*.dist-info/METADATA")
    metadata.write_text(metadata.read_text().replace("Version: 1.0", "Version: 1.1"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(newer), *others]))
    rows = json.loads(
        ask("sql", "FROM self_edits WHERE condition = 'round_0'", "--format", "json", cwd=folder)
    )
    shown = json.loads(seal("show", rows[0]["self_edit_id"], "--json", cwd=folder))
    assert "of seal-example==1.0 is seal-example==1.1 here" in shown["note"]
    assert shown["training_rows"] and shown["note"] in " ".join(
        seal("show", rows[0]["self_edit_id"], cwd=folder).split()
    )
    seal("run", "example.toml", cwd=folder, code=2)
