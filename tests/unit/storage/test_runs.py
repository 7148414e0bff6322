"""Runs: a name stands for one config."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from seal_core.errors import InputError
from storage.runs.registry import get_run, list_runs, register_run
from storage.store import Store

CONFIG = {"run": {"name": "x", "seed": 0}, "finetune": {"lr": 0.001}, "execution": {"workers": 1}}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(str(tmp_path / "store"))


def test_the_first_record_stays(store: Store) -> None:
    row = register_run(store, "demo", CONFIG, 5)
    again = {**CONFIG, "execution": {"workers": 9}, "run": {"name": None, "seed": 0}}
    assert register_run(store, "demo", again, 99) == row and row.shard_size == 5
    assert list_runs(store) == [row] and get_run(store, "demo") == row


def test_another_config_is_refused_field_by_field(store: Store) -> None:
    row = register_run(store, "demo", CONFIG, 5)
    other = {**CONFIG, "finetune": {"lr": 0.002, "epochs": 3}}
    with pytest.raises(InputError) as caught:
        register_run(store, "demo", other, 5)
    message = str(caught.value)
    assert "finetune.lr: 0.001 -> 0.002" in message and "--name" in message
    assert "finetune.epochs: (not set) -> 3" in message and "\n" not in message
    assert list_runs(store) == [row]


def test_files_with_other_names_are_no_runs(store: Store) -> None:
    row = register_run(store, "demo", CONFIG, 5)
    record = store.root / "_runs/demo.json"
    shutil.copy(record, record.with_name("demo (copy).json"))
    shutil.copytree(store.root / "runs/run=demo", store.root / "runs/run=x y")
    assert list_runs(store) == [row]


def test_unknown_run(store: Store) -> None:
    register_run(store, "demo", CONFIG, 5)
    with pytest.raises(InputError, match="it has: demo"):
        get_run(store, "demi")
