"""The view `noise` is `reward_noise` in SQL: equal on random rewards, also with some missing."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from seal_core.rewards.noise import reward_noise
from seal_core.types import Answer, SelfEdit
from storage.sql.catalog import Catalog
from storage.store import Store
from tests.unit.storage.rows import ANSWER, EDIT, put

QUESTIONS = 3
Rewards = list[list[list[float | None]]]
FIGURES = (
    "retraining_sd", "true_sd", "reliability", "apparent_best", "heldout_best", "winners_curse",
)  # fmt: skip


def rewards_P_E_R(rng: random.Random, shape: tuple[int, int, int], lost: float) -> Rewards:
    """Random rewards in thirds, so that ties are common; some repeats and self-edits are lost."""
    n_problems, n_edits, n_repeats = shape
    return [
        [
            [
                None if rng.random() < lost else rng.randint(0, QUESTIONS) / QUESTIONS
                for _ in range(n_repeats)
            ]
            for _ in range(n_edits - (rng.random() < lost))
        ]
        for _ in range(n_problems)
    ]


def rows(rewards: Rewards, rng: random.Random) -> Iterator[tuple[SelfEdit, list[Answer]]]:
    """Self-edits with the answers that give these rewards, their ids in no order."""
    for p, rewards_E_R in enumerate(rewards):
        for e, rewards_R in enumerate(rewards_E_R):
            name = f"e{rng.random()}"
            edit = replace(EDIT, self_edit_id=name, problem_id=f"p{p}", sample_index=e)
            answers = [
                replace(
                    ANSWER,
                    answer_id=f"{name}{r}{q}",
                    problem_id=f"p{p}",
                    question_id=f"q{q}",
                    self_edit_id=name,
                    repeat=r,
                    correct=None if reward is None else q < round(reward * QUESTIONS),
                    error="lost" if reward is None else None,
                )
                for r, reward in enumerate(rewards_R)
                for q in range(QUESTIONS)
            ]
            yield edit, answers


def fill(store: Store, rewards: Rewards, run: str, round_index: int) -> None:
    made = list(rows(rewards, random.Random(run)))
    put(store, "self_edits", [edit for edit, _ in made], round_index, run)
    put(store, "answers", [a for _, answers in made for a in answers], round_index, run)


def expected(rewards: Rewards) -> dict[str, float | None]:
    noise = reward_noise(rewards)
    return {name: getattr(noise, name) for name in FIGURES} | {
        "mean_accuracy": noise.mean,
        "n_problems": noise.n_problems,
        "n_left_out": len(rewards) - noise.n_problems,
        "n_self_edits": noise.n_problems * noise.n_edits,
        "repeats_per_edit": noise.n_repeats,
    }


@pytest.mark.parametrize(
    ("shape", "lost"), [((12, 5, 3), 0.0), ((30, 4, 2), 0.05), ((40, 2, 4), 0.1), ((3, 3, 2), 0.0)]
)
def test_equal_to_the_python(tmp_path: Path, shape: tuple[int, int, int], lost: float) -> None:
    store = Store.open(str(tmp_path / "store"))
    rng = random.Random(str((shape, lost)))
    cases = {
        (run, index): rewards_P_E_R(rng, shape, lost) for run in ("a", "b") for index in range(2)
    }
    for (run, index), rewards in cases.items():
        fill(store, rewards, run, index)
    with Catalog(store) as catalog:
        found = {(row["run"], row["round"]): row for row in catalog.records("SELECT * FROM noise")}
    assert found.keys() == cases.keys()
    for key, rewards in cases.items():
        figures = expected(rewards)
        assert {name: found[key][name] for name in figures} == pytest.approx(figures)
        assert not lost or figures["n_left_out"]


def test_without_differences_there_is_no_curse(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "store"))
    flat: Rewards = [[[1 / 3] * 3] * 3] * 7
    fill(store, flat, "r", 0)
    with Catalog(store) as catalog:
        (row,) = catalog.records("SELECT * FROM noise")
    assert (row["true_sd"], row["reliability"], row["winners_curse"]) == (0, 0, None)
    assert row["apparent_best"] == pytest.approx(1 / 3) == row["heldout_best"]


def test_no_complete_problem(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "store"))
    fill(store, [[[0.0, 1.0]], [[1.0], [0.0]]], "r", 0)
    with Catalog(store) as catalog:
        (row,) = catalog.records("SELECT * FROM noise")
    assert (row["n_problems"], row["n_left_out"], row["n_self_edits"]) == (0, 2, 0)
    assert {row[name] for name in FIGURES} == {None}
