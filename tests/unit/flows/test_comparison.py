"""Two runs are compared problem by problem, or refused where that would mean nothing.

1. Differences are paired over the problems that both have; the last rounds are compared too.
2. Settings that differ are told, and what each run cost.
3. Runs with different graders are compared by a grading that both stored, and only by that.
4. Runs about different problems, without held-out answers, or not there are refused by name.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flows.views.comparison import compare_runs
from seal_core.errors import InputError
from seal_core.rewards.intervals import paired_difference
from seal_core.types import NO_ADAPTATION, round_condition
from storage.runs.registry import register_run
from storage.sql.catalog import Catalog
from storage.store import Store
from tests.unit.storage.rows import ADAPTER, ANSWER, EDIT, STAGE, many, put

CONFIG = {"run": {"seed": 0}, "finetune": {"lr": 0.001}}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(str(tmp_path / "store"))


def answers(
    store: Store,
    run: str,
    rights: dict[str, list[bool]],
    round_index: int = 0,
    grader: str = "exact_match",
) -> None:
    """Held-out answers of a condition by problem; `contains` accepts all of them."""
    condition = NO_ADAPTATION if round_index < 0 else round_condition(round_index)
    rows = many(
        replace(ANSWER, split="heldout", condition=condition, grader=grader),
        [
            {
                "answer_id": f"{condition}-{problem}-{i}",
                "problem_id": problem,
                "question_id": f"{problem}-{i}",
                "correct": right,
                "grades": {"contains": 1.0, "exact_match": float(right)},
            }
            for problem, list_Q in rights.items()
            for i, right in enumerate(list_Q)
        ],
    )
    put(store, "answers", rows, round_index, run)


def compare(store: Store, *arguments: Any) -> Any:
    with Catalog(store) as catalog:
        return compare_runs(catalog, *arguments)


def test_pairs_settings_and_cost(store: Store) -> None:
    """1, 2"""
    register_run(store, "a", CONFIG, 5)
    register_run(store, "b", {**CONFIG, "finetune": {"lr": 0.002}}, 5)
    before = {"p0": [True, False], "p1": [False, False], "p2": [True, True]}
    answers(store, "a", before, -1)
    answers(store, "b", {"p0": [False, False], "p1": [False, True]}, -1)
    after = {"p0": [True, True], "p1": [True, False], "p2": [False, False]}
    answers(store, "a", after, 1)
    answers(store, "b", {"p0": [True, False], "p1": [False, False]}, 2)
    put(store, "self_edits", many(EDIT, [{"self_edit_id": f"e{i}"} for i in range(3)]), 0, "a")
    put(store, "adapters", many(ADAPTER, [{"adapter_id": f"d{i}"} for i in range(6)]), 0, "a")
    put(store, "stages", [STAGE, replace(STAGE, shard=1, seconds=None, n_tokens=0)], 0, "a")

    found = compare(store, "a", "b")
    assert (found.shared, found.problems) == (2, (3, 2))
    names = [pair.condition for pair in found.conditions]
    assert names == [NO_ADAPTATION, "last round: round_1, round_2"]
    first, last = found.conditions
    assert (first.a, first.b, first.difference.mean) == (0.25, 0.25, 0.0)
    assert (last.a, last.b) == (0.75, 0.25)
    expected = paired_difference({"p0": 1.0, "p1": 0.5}, {"p0": 0.5, "p1": 0.0})
    assert last.difference == expected
    assert found.settings == ["finetune.lr: 0.001 -> 0.002"]
    cost = found.cost[0]
    assert (cost.seconds, cost.tokens, cost.self_edits, cost.adapters) == (2.0, 100, 3, 6)
    assert found.cost[1].seconds == 0.0 and found.to_json()["cost"][1]["adapters"] == 0


def test_other_graders(store: Store) -> None:
    """3"""
    register_run(store, "a", CONFIG, 5)
    register_run(store, "b", CONFIG, 5)
    answers(store, "a", {"p0": [True, False]})
    answers(store, "b", {"p0": [True, True]}, grader="contains")
    with pytest.raises(InputError, match=r"'a' was graded by exact_match, 'b' by contains; .*--g"):
        compare(store, "a", "b")
    (pair,) = compare(store, "a", "b", "exact_match").conditions
    assert (pair.a, pair.b) == (0.5, 1.0)
    (pair,) = compare(store, "a", "b", "contains").conditions
    assert (pair.a, pair.b) == (1.0, 1.0)
    with pytest.raises(InputError, match="'a' has no held-out answers that are graded by 'rouge'"):
        compare(store, "a", "b", "rouge")


def test_refusals(store: Store) -> None:
    """4"""
    for name in ("a", "b", "c"):
        register_run(store, name, CONFIG, 5)
    answers(store, "a", {"p0": [True]})
    answers(store, "b", {"p9": [True], "p8": [True]})
    with pytest.raises(InputError, match=r"none of the 1 .* the 2 of the other.*heldout_path"):
        compare(store, "a", "b")
    with pytest.raises(InputError, match="'c' has no held-out answers"):
        compare(store, "a", "c")
    with pytest.raises(InputError, match="no run 'x' in this store; it has: a, b, c"):
        compare(store, "x", "a")
    with pytest.raises(InputError, match="'a' twice"):
        compare(store, "a", "a")
