"""The noise of rewards: how much of what the filter compares would differ on another training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class RewardNoise:
    """How much of the differences between self-edits is noise of training.

    Attributes:
        n_problems, n_edits, n_repeats: Shape of the rewards that were used.
        mean: Mean reward.
        retraining_sd: SD of the reward when the same self-edit is trained again.
        true_sd: SD of self-edits' true rewards within a problem, noise removed.
        reliability: Share of the variance of the means over repeats that is true, in [0, 1].
        apparent_best: Best-of-K reward, measured on the repeats that chose.
        heldout_best: The same, measured on a repeat that did not choose.
        winners_curse: Share of the apparent best-of-K gain over the mean that vanishes on
            held-out repeats; None when there is no apparent gain.
    """

    n_problems: int
    n_edits: int
    n_repeats: int
    mean: float
    retraining_sd: float
    true_sd: float
    reliability: float
    apparent_best: float
    heldout_best: float
    winners_curse: float | None


def reward_noise(rewards_P_E_R: Sequence[Sequence[Sequence[float | None]]]) -> RewardNoise:
    """Decomposes rewards into differences between self-edits and noise of retraining.

    With x[p, e, r] the reward, m[p, e] its mean over the R repeats, and variances with n - 1:
    `retraining_sd`² = W = mean over (p, e) of var_r x; B = mean over p of var_e m, of which W/R
    is noise, so `true_sd`² = max(0, B - W/R) and `reliability` = `true_sd`² / B (one-way random
    effects, ICC(1, R) within problems; Shrout & Fleiss 1979). `heldout_best` chooses by the mean
    of R - 1 repeats (ties to the earlier self-edit), measures on the left-out one, and averages
    over which is left out.

    Args:
        rewards_P_E_R: Problems with a missing reward, or another shape than the largest, are
            left out.

    Raises:
        ValueError: fewer than two self-edits or two repeats in every complete problem.
    """
    x = _complete(rewards_P_E_R)
    n_problems, n_edits, n_repeats = x.shape
    means = x.mean(axis=2)
    within = float(x.var(axis=2, ddof=1).mean())
    between = float(means.var(axis=1, ddof=1).mean())
    true = max(0.0, between - within / n_repeats)
    mean, apparent, heldout = float(x.mean()), float(means.max(axis=1).mean()), _heldout_best(x)
    apparent_gain = apparent - mean
    return RewardNoise(
        n_problems=n_problems,
        n_edits=n_edits,
        n_repeats=n_repeats,
        mean=mean,
        retraining_sd=math.sqrt(within),
        true_sd=math.sqrt(true),
        reliability=true / between if between > 0 else 0.0,
        apparent_best=apparent,
        heldout_best=heldout,
        winners_curse=(apparent - heldout) / apparent_gain if apparent_gain > 0 else None,
    )


def _complete(rewards_P_E_R: Sequence[Sequence[Sequence[float | None]]]) -> np.ndarray:
    """The complete problems as one array, shape (P, E, R)."""
    n_edits = max((len(edits) for edits in rewards_P_E_R), default=0)
    n_repeats = max((len(r) for edits in rewards_P_E_R for r in edits), default=0)
    kept = [
        edits
        for edits in rewards_P_E_R
        if len(edits) == n_edits and all(len(r) == n_repeats and None not in r for r in edits)
    ]
    if n_edits < 2 or n_repeats < 2 or not kept:
        raise ValueError(
            "the noise of rewards needs a problem with at least two self-edits and two repeats "
            "of each, none of them missing: raise sample.edits_per_problem and finetune.repeats"
        )
    return np.asarray(kept, dtype=float)


def _heldout_best(x: np.ndarray) -> float:
    problems = np.arange(x.shape[0])
    measured = []
    for left_out in range(x.shape[2]):
        # Rounded, so that equal means in another order of summation tie to the earlier one.
        chosen = np.delete(x, left_out, axis=2).mean(axis=2).round(9).argmax(axis=1)
        measured.append(x[problems, chosen, left_out].mean())
    return float(np.mean(measured))
