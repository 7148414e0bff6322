"""The likelihood reward is the mean log-probability of the reference answers, nats per token."""

from __future__ import annotations

from dataclasses import replace

import pytest

from seal_core.rewards.aggregate import score_self_edits
from seal_core.rewards.reward import Likelihood


def test_by_hand(edit, answer) -> None:
    def told(own, logprob: float | None, n_tokens: int | None):
        return replace(own, reference_logprob=logprob, reference_tokens=n_tokens)

    answers = [
        told(answer("p", 0, 0, True), -1.0, 2),
        told(answer("p", 0, 0, False), -3.0, 2),
        told(answer("p", 0, 1, False), -4.0, 1),
        told(answer("p", 0, 1, None, "lost"), None, None),
    ]
    baseline = [told(answer("p", None, 0, False), -9.0, 3)]
    (score,) = score_self_edits([edit("p", 0)], answers, baseline, Likelihood())
    # Repeats: -(0.5 + 1.5) / 2 and -4; their mean; before: -3.
    assert (score.reward, score.baseline_reward, score.gain) == (-2.5, -3.0, 0.5)
    assert score.uncertainty == pytest.approx(1.5)
    assert score.components == {"accuracy": 0.25, "likelihood": -2.5}
    assert (score.reward_name, score.n_repeats, score.n_errors) == ("likelihood", 2, 1)


def test_without_log_probabilities_there_is_no_reward(edit, answer) -> None:
    (score,) = score_self_edits([edit("p", 0)], [answer("p", 0, 0, True)], [], Likelihood())
    assert score.reward is None and score.components == {"accuracy": 1.0}
