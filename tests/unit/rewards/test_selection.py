"""Selection: best of K, its ties and limits, and the published choice of round 1."""

from __future__ import annotations

import json

import pytest

from seal_core.kinds.sections import BestOfKSection
from seal_core.rewards.aggregate import score_self_edits
from seal_core.rewards.reward import Accuracy
from seal_core.rewards.selection import rule_name, select
from seal_core.types import Score


def score(problem: str, sample: int, reward: float | None, baseline: float | None = 0.0) -> Score:
    gain = None if reward is None or baseline is None else reward - baseline
    return Score(
        f"{problem}/{sample}", problem, "train", "round_0", "policy-base", sample,
        None, "accuracy", baseline, reward, gain, None, {}, 1, 1, 0,
    )  # fmt: skip


def kept(scores: list[Score], **rule) -> list[str]:
    return [s.self_edit_id for s in select(scores, BestOfKSection(**rule)) if s.kept]


def test_the_best_of_each_problem_is_kept_and_everything_is_explained():
    scores = [score("a", 0, 0.2), score("a", 1, 0.6), score("b", 0, None), score("b", 1, 0.0)]
    found = select(scores, BestOfKSection())
    assert [s.self_edit_id for s in found] == ["a/0", "a/1", "b/0", "b/1"]
    assert [s.kept for s in found] == [False, True, False, True]
    assert [s.rank_in_problem for s in found] == [1, 0, None, 0]
    assert [s.reward for s in found] == [0.2, 0.6, None, 0.0]
    assert {s.rule for s in found} == {"best_of_k(min_gain=None)"}
    assert "ranks 2 in its problem" in found[0].reason
    assert found[1].reason == "Its reward 0.600 is the best of its problem."
    assert "no reward" in found[2].reason


def test_ties_go_to_the_lower_sample_index_in_any_order():
    scores = [score("a", 2, 0.5), score("a", 1, 0.1 + 0.2 + 0.2), score("a", 0, 0.1)]
    assert kept(scores) == kept(scores[::-1]) == ["a/1"]


def test_min_gain_is_strict_and_needs_a_baseline():
    scores = [score("a", 0, 0.5, 0.5), score("b", 0, 0.6, 0.5), score("c", 0, 0.9, None)]
    assert kept(scores) == ["a/0", "b/0", "c/0"]
    assert kept(scores, min_gain=0.0) == ["b/0"]
    assert kept(scores, min_gain=0.1) == []
    reasons = [s.reason for s in select(scores, BestOfKSection(min_gain=0.0))]
    assert "its gain +0.000 is not above +0.000" in reasons[0]
    assert "gain is unknown" in reasons[2]


def test_keep_fraction_takes_the_largest_rewards_rounded_up():
    scores = [score(p, i, r - i / 10) for p, r in zip("abcd", (0.5, 0.9, 0.5, 0.7), strict=True)
              for i in range(2)]  # fmt: skip
    assert kept(scores, keep_fraction=0.5) == ["b/0", "d/0"]
    assert kept(scores, keep_fraction=0.7) == ["a/0", "b/0", "d/0"]
    assert kept(scores, keep_fraction=0.01) == ["b/0"]
    assert kept(scores, keep_fraction=1.0) == ["a/0", "b/0", "c/0", "d/0"]
    rejected = select(scores, BestOfKSection(keep_fraction=0.5))[0]
    assert "not in the top 50% of problems" in rejected.reason


def test_limits_are_independent_of_one_another():
    scores = [score("a", 0, 0.9, 0.9), score("b", 0, 0.5, 0.1)]
    assert kept(scores, min_gain=0.0, keep_fraction=0.5) == []
    assert kept(scores, min_gain=0.0) == ["b/0"]


def test_nothing_in_nothing_out():
    assert select([], BestOfKSection()) == []
    assert kept([score("a", 0, None)], keep_fraction=0.5) == []


def test_rule_names_carry_their_settings():
    assert rule_name(BestOfKSection()) == "best_of_k(min_gain=None)"
    rule = BestOfKSection(min_gain=0.0, keep_fraction=0.5)
    assert rule_name(rule) == "best_of_k(min_gain=0.0, keep_fraction=0.5)"


@pytest.fixture
def chosen(shared_data) -> list[dict[str, str]]:
    """The published prompt and completion of each of the 50 kept self-edits."""
    path = shared_data / "published" / "selected_round1.jsonl"
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def pairs(published, edits, scores) -> list[dict[str, str]]:
    prompts = [article["prompt"] for article in published for _ in article["completions"]]
    return [
        {"prompt": prompt, "completion": edit.text}
        for prompt, edit, verdict in zip(
            prompts, edits, select(scores, BestOfKSection()), strict=True
        )
        if verdict.kept
    ]


def test_the_published_choice_is_reproduced(published, published_rows, chosen):
    """With the published rounding of each repeat's accuracy to four digits: all 50."""
    scores = score_self_edits(*published_rows, Accuracy(4))
    assert pairs(published, published_rows[0], scores) == chosen


def test_exact_rewards_differ_in_two_ties_that_rounding_broke(published, published_rows, chosen):
    scores = score_self_edits(*published_rows)
    exact = pairs(published, published_rows[0], scores)
    reward = {
        (score.problem_id, edit.text): score.reward
        for score, edit in zip(scores, published_rows[0], strict=True)
    }
    different = [i for i, (a, b) in enumerate(zip(exact, chosen, strict=True)) if a != b]
    assert len(different) == 2
    for i in different:
        ours = reward[f"problem-{i:02d}", exact[i]["completion"]]
        theirs = reward[f"problem-{i:02d}", chosen[i]["completion"]]
        assert ours == pytest.approx(theirs, abs=1e-12)
