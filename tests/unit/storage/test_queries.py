"""Named queries against the same numbers computed by brute force in plain Python."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from seal_core.rewards.intervals import mean_interval
from seal_core.types import Answer
from storage.sql.catalog import Catalog
from storage.store import Store
from tests.unit.storage.rows import (
    ADAPTER,
    ANSWER,
    EDIT,
    PICK,
    POLICY,
    PROBLEM,
    QUESTION,
    SCORE,
    STAGE,
    many,
    put,
)

PROBLEMS, EDITS, REPEATS, QUESTIONS = 3, 4, 2, 5


def _baseline(rng: random.Random, split: str) -> list[Answer]:
    base = replace(
        ANSWER, split=split, condition="no_adaptation", adapter_id=None, self_edit_id=None
    )  # type: ignore[arg-type]
    return [
        replace(
            base,
            answer_id=f"{split}-b{p}{q}",
            problem_id=f"p{p}",
            question_id=f"q{p}{q}",
            correct=rng.random() < 0.5,
        )
        for p in range(PROBLEMS)
        for q in range(QUESTIONS)
    ]


def _adapted(rng: random.Random, split: str) -> list[Answer]:
    rows = []
    for p in range(PROBLEMS):
        for e in range(EDITS):
            skill = rng.random()
            for r in range(REPEATS):
                for q in range(QUESTIONS):
                    lost = rng.random() < 0.05
                    row = replace(
                        ANSWER,
                        answer_id=f"{split}-{p}{e}{r}{q}",
                        problem_id=f"p{p}",
                        question_id=f"q{p}{q}",
                        self_edit_id=f"e{p}{e}",
                        adapter_id=f"d{p}{e}{r}",
                        repeat=r,
                        correct=None if lost else rng.random() < skill,
                        error="dead" if lost else None,
                    )
                    rows.append(replace(row, split=split))  # type: ignore[arg-type]
    return rows


def _score(p: int, e: int, before: list[Answer], after: list[Answer]) -> Any:
    base = statistics.mean(bool(a.correct) for a in before if a.problem_id == f"p{p}")
    graded = [a.correct for a in after if a.self_edit_id == f"e{p}{e}" and a.correct is not None]
    mean = statistics.mean(map(bool, graded))
    return replace(
        SCORE,
        self_edit_id=f"e{p}{e}",
        problem_id=f"p{p}",
        sample_index=e,
        baseline_reward=base,
        reward=mean,
        gain=mean - base,
    )


class World:
    """Two runs with equal rows: `r`, which is checked, and `other`, which must not leak into it."""

    def __init__(self, store: Store) -> None:
        rng = random.Random(3)
        self.before, self.after = _baseline(rng, "train"), _adapted(rng, "train")
        self.heldout_before, self.heldout = _baseline(rng, "heldout"), _adapted(rng, "heldout")
        pairs = [(p, e) for p in range(PROBLEMS) for e in range(EDITS)]
        self.scores = [_score(p, e, self.before, self.after) for p, e in pairs]
        names = [{"self_edit_id": f"e{p}{e}", "problem_id": f"p{p}"} for p, e in pairs]
        for run in ("r", "other"):
            self._put(store, run, names)

    def _put(self, store: Store, run: str, names: list[dict[str, Any]]) -> None:
        problems = [{"problem_id": f"p{p}"} for p in range(PROBLEMS)]
        questions = [
            {"question_id": f"q{p}{q}", "problem_id": f"p{p}", "question_index": q}
            for p in range(PROBLEMS)
            for q in range(QUESTIONS)
        ]
        put(store, "problems", many(PROBLEM, problems), -1, run)
        put(store, "questions", many(QUESTION, questions), -1, run)
        put(store, "self_edits", many(EDIT, names), 0, run)
        put(store, "scores", self.scores, 0, run)
        put(store, "selections", many(PICK, [{**n, "kept": n["self_edit_id"][2] == "0"}
                                            for n in names]), 0, run)  # fmt: skip
        put(store, "answers", self.before + self.after + self.heldout, 0, run)
        put(store, "answers", self.heldout_before, -1, run)
        put(store, "adapters", [ADAPTER, replace(ADAPTER, adapter_id="dx", error="NaN")], 0, run)
        put(store, "policies", [POLICY], -1, run)
        put(store, "policies", [replace(POLICY, policy_id="pi1", parent="pi0")], 0, run)
        put(store, "policies", [replace(POLICY, policy_id="pi2", parent="pi1")], 1, run)
        later = {"started_at": "2026-01-02", "error": "died", "seconds": 3.0, "n_units": 0}
        put(store, "stages", many(STAGE, [{}, later]), 0, run)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, Catalog]]:
    store = Store.open(str(Path(tmp_path_factory.mktemp("queries")) / "store"))
    world = World(store)
    with Catalog(store) as catalog:
        yield world, catalog


def rows(catalog: Catalog, name: str) -> list[dict[str, Any]]:
    return catalog.records(f"SELECT * FROM {name} WHERE run = 'r'")


def test_rewards_by_round(found: tuple[World, Catalog]) -> None:
    world, catalog = found
    (row,) = rows(catalog, "rewards_by_round")
    best = [max(s.reward for s in world.scores if s.problem_id == f"p{p}") for p in range(PROBLEMS)]
    assert (row["n_self_edits"], row["n_scored"], row["n_kept"]) == (12, 12, 3)
    assert row["mean_gain"] == pytest.approx(statistics.mean(s.gain for s in world.scores))
    assert row["share_helped"] == pytest.approx(statistics.mean(s.gain > 0 for s in world.scores))
    assert row["mean_best_reward"] == pytest.approx(statistics.mean(best))


def test_best_and_worst_edits(found: tuple[World, Catalog]) -> None:
    world, catalog = found
    for name, sign in (("best_edits", -1), ("worst_edits", 1)):
        expected = sorted(world.scores, key=lambda s: (sign * s.gain, s.self_edit_id))
        found_rows = rows(catalog, name)
        assert [r["self_edit_id"] for r in found_rows] == [s.self_edit_id for s in expected]
        assert found_rows[0]["text"] == EDIT.text and found_rows[0]["title"] == "Title"
        assert {r["self_edit_id"] for r in found_rows if r["kept"]} == {"e00", "e10", "e20"}


def test_edits_that_hurt(found: tuple[World, Catalog]) -> None:
    world, catalog = found
    before = {a.question_id: a.correct for a in world.before}
    hurt = {s.self_edit_id for s in world.scores if s.gain < 0}
    result = {
        r["self_edit_id"]: (r["n_lost"], r["n_won"]) for r in rows(catalog, "edits_that_hurt")
    }
    assert hurt and result == {
        edit: (
            sum(
                before[a.question_id] is True and a.correct is False
                for a in world.after
                if a.self_edit_id == edit
            ),
            sum(
                before[a.question_id] is False and a.correct is True
                for a in world.after
                if a.self_edit_id == edit
            ),
        )
        for edit in hurt
    }


def test_question_before_after(found: tuple[World, Catalog]) -> None:
    world, catalog = found
    baselines = {("train", a.question_id): a.correct for a in world.before}
    baselines |= {("heldout", a.question_id): a.correct for a in world.heldout_before}
    expected = {
        (a.split, a.self_edit_id, a.repeat, a.question_id): (
            baselines[a.split, a.question_id],
            a.correct,
        )
        for a in world.after + world.heldout
    }
    result = rows(catalog, "question_before_after")
    assert len(result) == len(expected)
    for r in result:
        key = (r["split"], r["self_edit_id"], r["repeat"], r["question_id"])
        assert expected[key] == (r["correct_before"], r["correct_after"])


def test_heldout_by_condition(found: tuple[World, Catalog]) -> None:
    world, catalog = found
    result = {r["condition"]: r for r in rows(catalog, "heldout_by_condition")}
    assert result.keys() == {"no_adaptation", "round_0"}
    for condition, answers in (("no_adaptation", world.heldout_before), ("round_0", world.heldout)):
        means = [
            statistics.mean(
                bool(a.correct)
                for a in answers
                if a.problem_id == f"p{p}" and a.correct is not None
            )
            for p in range(PROBLEMS)
        ]
        row, expected = result[condition], mean_interval(means)
        assert row["accuracy"] == pytest.approx(expected.mean)
        assert row["standard_error"] == pytest.approx(expected.se)
        assert (row["n_problems"], row["n_questions"]) == (PROBLEMS, PROBLEMS * QUESTIONS)
        assert row["n_errors"] == sum(a.error is not None for a in answers)
        assert row["n_answers"] + row["n_errors"] == len(answers)


def _repeat_means(answers: list[Answer]) -> dict[str, list[float]]:
    means: dict[str, list[float]] = {}
    for p in range(PROBLEMS):
        for e in range(EDITS):
            for r in range(REPEATS):
                graded = [
                    bool(a.correct)
                    for a in answers
                    if a.adapter_id == f"d{p}{e}{r}" and a.correct is not None
                ]
                means.setdefault(f"e{p}{e}", []).append(statistics.mean(graded))
    return means


def test_noise(found: tuple[World, Catalog]) -> None:
    world, catalog = found
    result = {r["split"]: r for r in rows(catalog, "noise")}
    for split, answers in (("train", world.after), ("heldout", world.heldout)):
        means = _repeat_means(answers)
        within = statistics.mean(statistics.variance(m) for m in means.values())
        observed = statistics.mean(
            statistics.variance([statistics.mean(means[f"e{p}{e}"]) for e in range(EDITS)])
            for p in range(PROBLEMS)
        )
        true = max(observed - within / REPEATS, 0)
        row = result[split]
        assert row["retraining_sd"] == pytest.approx(math.sqrt(within))
        assert row["true_sd"] == pytest.approx(math.sqrt(true))
        assert row["reliability"] == pytest.approx(true / (true + within / REPEATS))
        assert row["n_self_edits"] == 12 and row["repeats_per_edit"] == pytest.approx(REPEATS)


def test_noise_is_unknown_without_repeats(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "store"))
    put(store, "answers", many(ANSWER, [{}, {"self_edit_id": "e1", "correct": False}]))
    with Catalog(store) as catalog:
        (row,) = rows(catalog, "noise")
    assert row["observed_sd"] == pytest.approx(math.sqrt(0.5))
    assert row["retraining_sd"] is row["true_sd"] is row["reliability"] is None


def test_cost_by_stage(found: tuple[World, Catalog]) -> None:
    (row,) = rows(found[1], "cost_by_stage")
    assert (row["n_executions"], row["n_failed"], row["n_units"]) == (2, 1, 4)
    assert (row["seconds"], row["seconds_per_unit"], row["tokens_per_second"]) == (5.0, 1.25, 40.0)


def test_policy_lineage(found: tuple[World, Catalog]) -> None:
    result = [(r["policy_id"], r["depth"], r["path"]) for r in rows(found[1], "policy_lineage")]
    path = ["pi0", "pi1", "pi2"]
    assert result == [(path[i], i, path[: i + 1]) for i in range(3)]


def test_errors(found: tuple[World, Catalog]) -> None:
    world, catalog = found
    result = rows(catalog, "errors")
    lost = {a.answer_id for a in world.after + world.heldout if a.error}
    assert {r["unit"] for r in result if r["stage"] == "evaluate"} == lost
    others = [(r["stage"], r["unit"], r["error"]) for r in result if r["stage"] != "evaluate"]
    assert others == [("finetune", "dx", "NaN"), ("sample", "round_0 shard 0", "died")]
