"""Published runs in the store: the same views answer for them; a name stands for one file.

1. The same file twice gives the same parts; another one under the name is refused.
2. An import that was killed is made whole by the next one.
3. Views find baselines, rewards, kept self-edits and forgetting of imported runs.
4. The published figures come out of the views.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seal_core.errors import InputError
from seal_core.published.records import read_published
from storage.runs.importing import import_run, is_imported
from storage.runs.registry import get_run, list_runs, register_run
from storage.sql.catalog import Catalog
from storage.store import Store
from tests.published_files import (
    PUBLISHED,
    continual_file,
    eval_file,
    pretraining_file,
    save,
    statistics_file,
    train_file,
)

real = pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published files are not here")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(str(tmp_path / "store"))


@pytest.fixture
def put_file(store: Store, tmp_path: Path) -> Callable[..., dict[str, int]]:
    def put(content: Any, name: str) -> dict[str, int]:
        return import_run(store, name, read_published(save(tmp_path / "file.json", content)))

    return put


def parts(store: Store) -> dict[str, bytes]:
    return {str(p.relative_to(store.root)): p.read_bytes() for p in store.root.rglob("*.parquet")}


def test_the_same_file_twice(store: Store, put_file: Callable[..., dict[str, int]]) -> None:
    """1"""
    counts = put_file(train_file(), "x")
    assert counts == {
        "problems": 2, "questions": 4, "policies": 1, "self_edits": 4, "adapters": 8,
        "answers": 32, "scores": 4, "selections": 4,
    }  # fmt: skip
    before = parts(store)
    assert put_file(train_file(), "x") == counts and parts(store) == before
    with pytest.raises(InputError, match="imported from another file") as caught:
        put_file(eval_file(), "x")
    assert "--name" in str(caught.value) and "\n" not in str(caught.value)
    assert parts(store) == before
    assert put_file(train_file(), "y") == counts
    with Catalog(store) as catalog:
        assert catalog.fetch("SELECT run, count(*) FROM answers GROUP BY run ORDER BY run") == [
            ("x", 32),
            ("y", 32),
        ]


def test_names_of_other_runs(store: Store, put_file: Callable[..., dict[str, int]]) -> None:
    """1"""
    register_run(store, "own", {"finetune": {"lr": 0.1}}, 5)
    with pytest.raises(InputError, match="'own' exists and was not imported: choose another"):
        put_file(train_file(), "own")
    with pytest.raises(InputError, match="run name"):
        put_file(train_file(), "../x")
    assert [row.run for row in list_runs(store)] == ["own"]
    assert not is_imported(get_run(store, "own"))
    put_file(train_file(), "x")
    assert is_imported(get_run(store, "x"))
    with pytest.raises(InputError, match="'x' was imported from a file: choose another --name"):
        register_run(store, "x", {"finetune": {"lr": 0.1}}, 5)
    assert json.loads(get_run(store, "x").config_json)["import"]["kind"] == "train"


def test_a_killed_import_is_made_whole(
    store: Store, put_file: Callable[..., dict[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """2"""
    put_file(train_file(), "whole")
    write = Store.write_part

    def killed(self: Store, table: str, *args: Any, **kwargs: Any) -> Any:
        if table == "answers":
            raise KeyboardInterrupt
        return write(self, table, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "write_part", killed)
        with pytest.raises(KeyboardInterrupt):
            put_file(train_file(), "cut")
    put_file(train_file(), "cut")
    with Catalog(store) as catalog:
        for table in ("self_edits", "adapters", "answers", "scores", "selections"):
            whole, cut = (
                catalog.fetch(f"SELECT * EXCLUDE run FROM {table} WHERE run = $run ORDER BY ALL",
                              run=run)
                for run in ("whole", "cut")
            )  # fmt: skip
            assert whole and whole == cut


def test_views_of_a_training_run(store: Store, put_file: Callable[..., dict[str, int]]) -> None:
    """3"""
    put_file(train_file(), "x")
    with Catalog(store) as catalog:
        (rewards,) = catalog.records("SELECT * FROM rewards_by_round")
        assert (rewards["n_self_edits"], rewards["n_kept"], rewards["mean_baseline"]) == (4, 2, 0)
        assert (rewards["mean_reward"], rewards["mean_best_reward"]) == (0.5, 0.625)
        (by_prompt,) = catalog.records("SELECT * FROM rewards_by_prompt")
        assert (by_prompt["prompt_id"], by_prompt["n_kept"]) == ("unknown", 2)
        changed = catalog.records("SELECT * FROM question_before_after")
        assert len(changed) == 16
        # The first time that it was asked.
        assert {row["text_before"] for row in changed} == {"before 000", "before 001"}
        assert all(row["correct_before"] is False for row in changed)
        (noise,) = catalog.records("SELECT * FROM noise")
        assert (noise["n_self_edits"], noise["apparent_best"]) == (4, 0.625)
        for name, _ in catalog.describe():
            catalog.query(f"SELECT * FROM {name}")


def test_views_of_statistics(store: Store, put_file: Callable[..., dict[str, int]]) -> None:
    """3: rewards as of a file with answers; no noise, since no repeat is known."""
    counts = put_file(statistics_file(), "x")
    assert not counts.keys() & {"answers", "questions"} and counts["selections"] == 4
    with Catalog(store) as catalog:
        (rewards,) = catalog.records("SELECT * FROM rewards_by_round")
        assert (rewards["n_self_edits"], rewards["n_kept"], rewards["mean_baseline"]) == (
            4,
            2,
            0.25,
        )
        assert (rewards["mean_reward"], rewards["mean_best_reward"]) == (0.5, 0.625)
        assert catalog.records("SELECT * FROM noise") == []
        for name, _ in catalog.describe():
            catalog.query(f"SELECT * FROM {name}")


def test_views_of_pretraining(store: Store, put_file: Callable[..., dict[str, int]]) -> None:
    """3"""
    assert put_file(pretraining_file(), "x") == {"policies": 2, "answers": 6}
    with Catalog(store) as catalog:
        found = catalog.fetch(
            "SELECT condition, round(accuracy, 4), n_problems, n_questions, standard_error "
            "FROM heldout_by_condition ORDER BY accuracy"
        )
        assert found == [
            ("no_adaptation", 0.3333, 1, 3, None),
            ("continued_pretraining", 0.6667, 1, 3, None),
        ]
        lineage = catalog.fetch("SELECT depth, n_examples FROM policy_lineage ORDER BY depth")
        assert lineage == [(0, None), (1, 10)]
        for name, _ in catalog.describe():
            catalog.query(f"SELECT * FROM {name}")


def test_views_of_an_evaluation(store: Store, put_file: Callable[..., dict[str, int]]) -> None:
    """3"""
    put_file(eval_file(), "x")
    with Catalog(store) as catalog:
        found = catalog.records("SELECT condition, accuracy, n_questions FROM heldout_by_condition")
        assert found == [
            {"condition": "no_adaptation", "accuracy": 0.0, "n_questions": 4},
            {"condition": "round_0", "accuracy": 0.75, "n_questions": 4},
        ]
        changed = catalog.fetch("SELECT correct_before, correct_after FROM question_before_after")
        assert sorted(changed) == [(False, False)] + [(False, True)] * 3
        assert catalog.fetch("SELECT count(*) FROM best_edits") == [(2,)]
        assert catalog.fetch("SELECT count(*) FROM selections") == [(0,)]


def test_forgetting(store: Store, put_file: Callable[..., dict[str, int]]) -> None:
    """3"""
    put_file(continual_file(), "x")
    put_file(continual_file(), "y")
    with Catalog(store) as catalog:
        found = catalog.records("SELECT * FROM forgetting WHERE run = 'x'")
    figures = [
        (row["before_learning"], row["after_learning"], row["at_the_end"], row["forgotten"])
        for row in found
    ]
    assert figures == [(0.1, 0.5, 0.25, 0.25), (0.2, 0.75, 0.75, 0.0)]
    assert [row["learnt"] for row in found] == pytest.approx([0.4, 0.55])
    assert [row["left_at_the_end"] for row in found] == pytest.approx([0.15, 0.55])
    assert [row["n_later_passages"] for row in found] == [1, 0]


@real
def test_published_figures(store: Store) -> None:
    """4"""
    for name in ("train_round1", "eval_base", "eval_iter1", "continual"):
        import_run(store, name, read_published(PUBLISHED / f"{name}.json"))
    with Catalog(store) as catalog:
        accuracy = "SELECT round(avg(reward), 4) FROM scores WHERE run = $run"
        assert catalog.fetch(accuracy, run="eval_base") == [(0.3968,)]
        assert catalog.fetch(accuracy, run="eval_iter1") == [(0.4268,)]
        (noise,) = catalog.records("SELECT * FROM noise WHERE run = 'train_round1'")
        assert round(noise["retraining_sd"], 3) == 0.192
        assert round(noise["true_sd"], 3) == 0.075
        assert round(noise["reliability"], 2) == 0.32
        assert round(noise["apparent_best"], 3) == 0.543
        assert round(noise["heldout_best"], 3) == 0.427
        assert round(noise["winners_curse"], 2) == 0.82
        assert (noise["n_problems"], noise["n_left_out"], noise["n_self_edits"]) == (50, 0, 250)
        lost = catalog.fetch("SELECT avg(forgotten) FROM forgetting WHERE n_later_passages > 0")
        matrix = json.loads((PUBLISHED / "continual.json").read_text())["mean_over_sequences"]
        expected = sum(matrix[i + 1][i] - matrix[8][i] for i in range(7)) / 7
        assert lost[0][0] == pytest.approx(expected) and expected > 0.1
