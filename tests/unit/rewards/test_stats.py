"""Statistics: textbook intervals, simulated noise that is found again, published figures."""

from __future__ import annotations

import json
from collections import defaultdict

import numpy as np
import pytest

from seal_core.rewards.aggregate import score_self_edits
from seal_core.rewards.stats import (
    Estimate,
    mean_interval,
    paired_difference,
    problem_means,
    reward_noise,
    t_quantile,
)


@pytest.mark.parametrize(
    ("p", "df", "expected"),
    [(0.975, 1, 12.7062), (0.975, 4, 2.7764), (0.95, 10, 1.8125), (0.975, 10**6, 1.96)],
)
def test_t_quantiles_are_those_of_the_tables(p, df, expected):
    assert t_quantile(p, df) == pytest.approx(expected, abs=1e-4)


def test_mean_and_interval_by_hand():
    found = mean_interval([1.0, 2.0, 3.0, 4.0, 5.0], bounds=(0.0, 9.0))
    half = 2.776445 * np.sqrt(2.5 / 5)
    assert found.n == 5
    assert (found.mean, found.low, found.high) == pytest.approx((3.0, 3.0 - half, 3.0 + half))


def test_an_interval_does_not_leave_the_values_that_there_are():
    found = mean_interval([0.0, 1.0])
    assert (found.mean, found.se, found.low, found.high) == (0.5, 0.5, 0.0, 1.0)
    found = paired_difference({"p": 1.0, "q": 0.0}, {"p": 0.0, "q": 0.0})
    assert (found.low, found.high) == (-1.0, 1.0)
    assert mean_interval([0.2, 0.4]).high == 1.0


def test_too_few_problems_have_no_interval():
    assert mean_interval([]) == Estimate(None, None, None, None, 0)
    assert mean_interval([0.5]) == Estimate(0.5, None, None, None, 1)


@pytest.mark.parametrize(
    ("value", "n", "low", "high"),
    [
        (1.0, 2, 0.2236, 1.0),
        (0.0, 2, 0.0, 0.7764),
        (1.0, 100, 0.9705, 1.0),
        (0.5, 10, 0.3706, 0.6294),
    ],
)
def test_alike_values_are_no_certainty(value, n, low, high):
    """n of n right: the binomial's exact one-sided bound, 0.05^(1/n)."""
    found = mean_interval([value] * n)
    assert (found.mean, found.se, found.n) == (value, None, n)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-4)


def test_alike_differences_are_no_certainty():
    """Equal up to rounding: 0.3 - 0.1 is not 0.4 - 0.2."""
    found = paired_difference({"p": 0.3, "q": 0.4}, {"p": 0.1, "q": 0.2})
    share = 0.05**0.5
    assert found.se is None
    assert (found.low, found.high) == pytest.approx((1.2 * share - 1, 1 - 0.8 * share))


def test_the_interval_covers_the_truth_at_its_level():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(400):
        found = mean_interval(rng.normal(0.4, 0.2, size=12))
        assert found.low is not None and found.high is not None
        hits += found.low <= 0.4 <= found.high
    assert 0.92 <= hits / 400 <= 0.98


def test_problems_are_averaged_before_the_interval():
    values = [("a", 1.0), ("b", 0.0), ("a", 0.0), ("a", 0.5)]
    assert problem_means(values) == {"a": 0.5, "b": 0.0}


def test_paired_difference_uses_shared_problems_only():
    a = {"p": 0.5, "q": 0.75, "only a": 1.0}
    b = {"q": 0.25, "p": 0.25, "only b": 0.0}
    found = paired_difference(a, b)
    assert (found.mean, found.n) == (0.375, 2)
    assert found.se == pytest.approx(0.125)
    assert paired_difference(a, {}).n == 0


def test_published_heldout_accuracies_and_their_difference(shared_data):
    means = {}
    for name in ("eval_base", "eval_iter1"):
        path = shared_data / "published" / f"{name}.json"
        articles = json.loads(path.read_text("utf-8"))["articles"]
        means[name] = {
            article["context"]: np.mean(
                [q["adapter_correct"] for c in article["completions"] for q in c["questions"]]
            )
            for article in articles
        }
    assert mean_interval(means["eval_base"].values()).mean == pytest.approx(0.3968, abs=5e-5)
    assert mean_interval(means["eval_iter1"].values()).mean == pytest.approx(0.4268, abs=5e-5)
    gain = paired_difference(means["eval_iter1"], means["eval_base"])
    assert gain.n == 200
    assert gain.mean == pytest.approx(0.0300, abs=1e-4)


def test_published_noise_figures(published_rows):
    edits, answers, _ = published_rows
    marks = defaultdict(list)
    for answer in answers:
        marks[answer.self_edit_id, answer.repeat].append(answer.correct)
    problems = list(dict.fromkeys(edit.problem_id for edit in edits))
    rewards_P_E_R = [
        [[float(np.mean(marks[f"{p}/{e}", r])) for r in range(3)] for e in range(5)]
        for p in problems
    ]
    noise = reward_noise(rewards_P_E_R)
    assert (noise.n_problems, noise.n_edits, noise.n_repeats) == (50, 5, 3)
    assert noise.retraining_sd == pytest.approx(0.192, abs=5e-4)
    assert noise.true_sd == pytest.approx(0.075, abs=5e-4)
    assert noise.reliability == pytest.approx(0.32, abs=5e-3)
    assert noise.apparent_best == pytest.approx(0.543, abs=5e-4)
    assert noise.heldout_best == pytest.approx(0.427, abs=5e-4)
    assert noise.winners_curse == pytest.approx(0.8, abs=0.05)
    rewards = [score.reward or 0.0 for score in score_self_edits(*published_rows)]
    assert noise.mean == pytest.approx(np.mean(rewards))


def test_simulated_noise_is_found_again():
    rng = np.random.default_rng(1)
    problem = rng.normal(0.5, 0.3, size=(4000, 1, 1))
    edit = rng.normal(0.0, 0.1, size=(4000, 5, 1))
    noise = reward_noise((problem + edit + rng.normal(0, 0.2, size=(4000, 5, 3))).tolist())
    assert noise.retraining_sd == pytest.approx(0.2, rel=0.03)
    assert noise.true_sd == pytest.approx(0.1, rel=0.05)
    assert noise.reliability == pytest.approx(0.01 / (0.01 + 0.04 / 3), rel=0.1)
    assert noise.apparent_best > noise.heldout_best > noise.mean


def test_without_true_differences_the_whole_gain_is_a_curse():
    rng = np.random.default_rng(2)
    noise = reward_noise(rng.normal(0, 1, size=(4000, 5, 3)).tolist())
    assert noise.reliability < 0.05
    assert noise.winners_curse == pytest.approx(1.0, abs=0.05)
    flat = reward_noise([[[0.5, 0.5], [0.5, 0.5]]])
    assert (flat.reliability, flat.true_sd, flat.winners_curse) == (0.0, 0.0, None)


def test_incomplete_problems_are_left_out_of_the_noise():
    whole = [[0.0, 0.5], [1.0, 0.5]]
    noise = reward_noise([whole, [[0.0, None], [1.0, 1.0]], [[0.0, 1.0]], whole])
    assert noise.n_problems == 2
    with pytest.raises(ValueError, match="at least two self-edits and two repeats"):
        reward_noise([[[0.1], [0.2]]])
    with pytest.raises(ValueError, match="none of them missing"):
        reward_noise([])
