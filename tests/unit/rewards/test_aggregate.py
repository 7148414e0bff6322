"""Scores: the mean over repeats, the gain, and errors that are never wrong answers."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import numpy as np
import pytest

from seal_core.errors import StageError
from seal_core.rewards.aggregate import score_self_edits
from seal_core.rewards.reward import Judgement


def test_mean_of_repeats_gain_and_uncertainty(edit, answer):
    answers = [answer("p", 0, 0, True), answer("p", 0, 0, True)]
    answers += [answer("p", 0, 1, True), answer("p", 0, 1, False)]
    baseline = [answer("p", None, 0, c) for c in (True, False, False, False)]
    (score,) = score_self_edits([edit("p", 0)], answers, baseline)
    assert (score.reward, score.baseline_reward, score.gain) == (0.75, 0.25, 0.5)
    assert score.uncertainty == pytest.approx(math.sqrt(0.125) / math.sqrt(2))
    assert (score.n_repeats, score.n_answers, score.n_errors) == (2, 4, 0)
    assert (score.self_edit_id, score.sample_index, score.split) == ("p/0", 0, "train")


def test_an_error_is_left_out_and_its_repeat_weighs_the_same(edit, answer):
    answers = [answer("p", 0, 0, True), answer("p", 0, 0, None, error="dead")]
    answers += [answer("p", 0, 1, True), answer("p", 0, 1, False)]
    (score,) = score_self_edits([edit("p", 0)], answers, [])
    assert (score.reward, score.n_answers, score.n_errors) == (0.75, 3, 1)
    assert score.baseline_reward is None and score.gain is None


def test_a_lost_repeat_lowers_the_count_of_repeats_not_the_score(edit, answer):
    answers = [answer("p", 0, 0, True), answer("p", 0, 1, None, error="loss became NaN")]
    (score,) = score_self_edits([edit("p", 0)], answers, [answer("p", None, 0, True)])
    assert (score.reward, score.gain, score.uncertainty) == (1.0, 0.0, None)
    assert (score.n_repeats, score.n_errors) == (1, 1)


def test_nothing_graded_is_no_reward_rather_than_zero(edit, answer):
    edits = [edit("p", 0), edit("p", 1), edit("p", 2, error="no text")]
    answers = [answer("p", 0, 0, None, error="dead"), answer("p", 2, 0, True)]
    baseline = [answer("p", None, 0, True), answer("p", None, 0, None, error="dead")]
    scores = score_self_edits(edits, answers, baseline)
    assert [s.reward for s in scores] == [None, None, None]
    assert [s.gain for s in scores] == [None, None, None]
    assert [s.n_errors for s in scores] == [1, 0, 1]
    assert [s.baseline_reward for s in scores] == [1.0, 1.0, 1.0]


def test_baselines_of_several_policies_are_not_mixed(edit, answer):
    baseline = [answer("p", None, 0, True), answer("p", None, 0, True, policy="policy-1")]
    with pytest.raises(ValueError, match="baseline answers of p mix"):
        score_self_edits([edit("p", 0)], [], baseline)


def test_published_means_are_reproduced(published, published_rows):
    scores = score_self_edits(*published_rows)
    grouped = defaultdict(list)
    for score in scores:
        grouped[score.problem_id].append(score)
    for article, group in zip(published, grouped.values(), strict=True):
        for completion, score in zip(article["completions"], group, strict=True):
            stats = completion["stats"]
            assert score.reward == pytest.approx(stats["adapter_mean"], abs=1e-4)
            assert score.baseline_reward == pytest.approx(stats["baseline_mean"], abs=1e-4)
            assert score.gain == pytest.approx(stats["gain_mean"], abs=2e-4)
            assert score.uncertainty * math.sqrt(3) == pytest.approx(stats["adapter_std"], abs=2e-4)


class Given:
    """A reward that gives the baseline one number, and self-edits another."""

    name, evidence = "given", frozenset[str]()

    def __init__(self, baseline: Any, adapted: Any) -> None:
        self._baseline, self._adapted = baseline, adapted

    def judge(self, answers: Any, edit: Any) -> Judgement:
        return Judgement(self._baseline if edit is None else self._adapted)


@pytest.mark.parametrize("strange", [math.nan, math.inf, -math.inf, "much", [1.0]])
def test_a_reward_that_is_no_finite_number_is_refused(edit, answer, strange):
    given = [edit("p", 0)], [answer("p", 0, 0, True)], [answer("p", None, 0, True)]
    with pytest.raises(StageError, match=r"the reward 'given' gives p/0 of p .* no finite number"):
        score_self_edits(*given, Given(0.5, strange))
    with pytest.raises(StageError, match=r"the reward 'given' gives the baseline of p "):
        score_self_edits(*given, Given(strange, 0.5))
    (score,) = score_self_edits(*given, Given(None, np.float32(0.5)))
    assert (score.reward, score.gain) == (0.5, None) and type(score.reward) is float
