"""The harness sees what it is there to see: a row lost, doubled, changed, or out of nowhere."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest

from tests.chaos.comparison import METHOD, compare


def answer(number: int, **changes: Any) -> dict[str, Any]:
    row = {"run": "demo", "round": 0, "answer_id": f"answer-{number}", "text": "yes"}
    return {**row, "logprob": -1.0, "correct": None, **changes}


@pytest.fixture
def tables() -> dict[str, list[dict[str, Any]]]:
    scores = [{"run": "demo", "round": 0, "self_edit_id": "edit-1", "gain": math.nan}]
    return {"answers": [answer(1), answer(2), answer(3)], "scores": scores}


def test_equal_tables_have_no_difference_in_any_order(tables: Any) -> None:
    mine = copy.deepcopy(tables)
    mine["answers"].reverse()
    assert not compare(tables, mine)


def test_a_lost_row_is_seen(tables: Any) -> None:
    mine = {**tables, "answers": tables["answers"][1:]}
    found = compare(tables, mine)
    assert (found.lost, found.doubled) == (("answers demo 0 answer-1",), ())
    assert found


def test_a_lost_table_is_seen(tables: Any) -> None:
    assert compare(tables, {"answers": tables["answers"]}).lost == ("scores demo 0 edit-1",)


def test_a_doubled_row_is_seen_be_it_equal_or_not(tables: Any) -> None:
    for double in (answer(2), answer(2, text="no")):
        found = compare(tables, {**tables, "answers": [*tables["answers"], double]})
        assert (found.doubled, found.lost) == (("answers demo 0 answer-2",), ())


@pytest.mark.parametrize(
    "change", [{"text": "no"}, {"correct": False}, {"logprob": -1.0000001}, {"logprob": None}]
)
def test_a_changed_cell_is_seen(tables: Any, change: dict[str, Any]) -> None:
    mine = {**tables, "answers": [answer(1, **change), answer(2), answer(3)]}
    assert compare(tables, mine).changed == ("answers demo 0 answer-1",)


def test_a_row_in_another_round_is_lost_and_strange(tables: Any) -> None:
    mine = {**tables, "answers": [answer(1, round=1), answer(2), answer(3)]}
    found = compare(tables, mine)
    assert found.lost == ("answers demo 0 answer-1",)
    assert found.strange == ("answers demo 1 answer-1",)


def test_only_named_columns_may_differ_by_rounding(tables: Any) -> None:
    mine = {**tables, "answers": [answer(1, logprob=-1.0001), answer(2), answer(3)]}
    assert not compare(tables, mine, approximate=["logprob"])
    assert compare(tables, mine)
    mine["answers"][0]["logprob"] = -1.1
    assert compare(tables, mine, approximate=["logprob"]).changed


def test_history_is_not_compared_and_all_else_is() -> None:
    assert {"runs", "stages"}.isdisjoint(METHOD)
    assert {"problems", "questions", "self_edits", "adapters", "answers"} < set(METHOD)
    assert {"scores", "selections", "policies"} < set(METHOD)
