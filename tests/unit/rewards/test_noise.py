"""The noise of rewards: published figures, and simulated noise that is found again."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest

from seal_core.rewards.aggregate import score_self_edits
from seal_core.rewards.noise import reward_noise


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
