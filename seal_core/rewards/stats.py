"""Statistics of a run: intervals over problems, paired differences, and the noise of rewards.

The unit of every interval is the problem: questions about one passage, and repeats of one
self-edit, are not independent of one another, so they are averaged first and n is the number of
problems. Intervals are Student's t, which needs no seed; where all values are alike it has no
width, and a bound by their range takes its place. numpy and the standard library only.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

_ALIKE = 1e-9
"""Values that differ by less differ by rounding."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over problems and its interval.

    Attributes:
        mean: None when there is no value.
        se: Standard error, SD (n - 1) / sqrt(n); None where all values are alike.
        low, high: Bounds of the interval; None below two problems.
        n: Number of problems.
    """

    mean: float | None
    se: float | None
    low: float | None
    high: float | None
    n: int


def problem_means(values: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Mean per problem of (problem id, value) pairs, in the order of first appearance."""
    grouped: dict[str, list[float]] = defaultdict(list)
    for problem_id, value in values:
        grouped[problem_id].append(value)
    return {problem_id: math.fsum(found) / len(found) for problem_id, found in grouped.items()}


def mean_interval(
    values_P: Iterable[float], level: float = 0.95, bounds: tuple[float, float] = (0.0, 1.0)
) -> Estimate:
    """Mean of one value per problem, with an interval of the given level.

    Args:
        bounds: Least and greatest value that a problem can have; the interval is cut to them.
    """
    values = np.asarray(list(values_P), dtype=float)
    n = len(values)
    if n == 0:
        return Estimate(None, None, None, None, 0)
    mean = float(values.mean())
    if n == 1:
        return Estimate(mean, None, None, None, 1)
    if np.ptp(values) < _ALIKE:
        # Where less than this share of all problems had that value, n of n would be rarer than
        # 1 - level. The others may have any value.
        share = (1.0 - level) ** (1.0 / n)
        low, high = (share * mean + (1.0 - share) * bound for bound in bounds)
        return Estimate(mean, None, low, high, n)
    se = float(values.std(ddof=1)) / math.sqrt(n)
    half = t_quantile(0.5 + level / 2, n - 1) * se
    low, high = max(mean - half, bounds[0]), min(mean + half, bounds[1])
    return Estimate(mean, se, low, high, n)


def paired_difference(
    a: Mapping[str, float], b: Mapping[str, float], level: float = 0.95
) -> Estimate:
    """Mean of `a - b` over the problems that both have, with an interval.

    Args:
        a, b: One value in [0, 1] per problem id.
    """
    differences = (value - b[key] for key, value in a.items() if key in b)
    return mean_interval(differences, level, bounds=(-1.0, 1.0))


def t_quantile(p: float, df: int) -> float:
    """Quantile of Student's t for p in [0.5, 1), by bisection; good to about 1e-6."""
    low, high = 0.0, 1.0
    while _t_cdf(high, df) < p:
        high *= 2.0
    for _ in range(60):
        middle = (low + high) / 2.0
        low, high = (middle, high) if _t_cdf(middle, df) < p else (low, middle)
    return (low + high) / 2.0


def _t_cdf(t: float, df: int) -> float:
    """P(T <= t) for t >= 0: with t = sqrt(df) tan(u), the density is C cos(u)^(df - 1)."""
    log_c = math.lgamma((df + 1) / 2) - math.lgamma(df / 2) - 0.5 * math.log(math.pi)
    u, step = np.linspace(0.0, math.atan(t / math.sqrt(df)), 2001, retstep=True)
    y = np.cos(u) ** (df - 1)
    simpson = float(step) / 3.0 * (y[0] + y[-1] + 4.0 * y[1:-1:2].sum() + 2.0 * y[2:-1:2].sum())
    return 0.5 + math.exp(log_c) * float(simpson)


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
