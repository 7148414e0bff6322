"""Means over problems and paired differences, with intervals.

The unit of every interval is the problem: questions about one passage, and repeats of one
self-edit, are not independent of one another, so they are averaged first and n is the number of
problems. Intervals need no seed, stay within the values that there are and never have no width.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv, ndtri, stdtrit

_ALIKE = 1e-9
"""Values that differ by less differ by rounding."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over problems and its interval.

    Attributes:
        mean: None when there is no value.
        se: Standard error, SD (n - 1) / sqrt(n); None where all values are alike.
        low, high: Bounds of the interval; None when there is no value.
        n: Number of problems.
    """

    mean: float | None
    se: float | None
    low: float | None
    high: float | None
    n: int


def mean_interval(
    values_P: Iterable[float], level: float = 0.95, bounds: tuple[float, float] = (0.0, 1.0)
) -> Estimate:
    """Mean of one value per problem, with an interval of the given level.

    Clopper and Pearson's interval on the effective number of questions, which follows from the
    variance between problems (Korn & Graubard 1998).

    Args:
        bounds: Least and greatest value that a problem can have.

    Raises:
        ValueError: A value is outside them.
    """
    values = np.asarray(list(values_P), dtype=float)
    if len(values) == 0:
        return Estimate(None, None, None, None, 0)
    strange = values[~((values >= bounds[0] - _ALIKE) & (values <= bounds[1] + _ALIKE))]
    if len(strange):
        raise ValueError(f"the value {strange[0]:g} is not within the bounds {bounds}")
    low, high = _interval(values, level, bounds)
    return Estimate(float(values.mean()), _standard_error(values), low, high, len(values))


def paired_difference(
    a: Mapping[str, float], b: Mapping[str, float], level: float = 0.95
) -> Estimate:
    """Mean of `a - b` over the problems that both have, with an interval.

    The intervals of both means, combined by their correlation over problems (Newcombe 1998, Zou &
    Donner 2008): where a mean is near 0 or 1, the differences are too skewed for Student's t.

    Args:
        a, b: One value in [0, 1] per problem id.
    """
    shared = [key for key in a if key in b]
    if not shared:
        return Estimate(None, None, None, None, 0)
    x, y = np.array([a[key] for key in shared]), np.array([b[key] for key in shared])
    differences = x - y
    mean, se = float(differences.mean()), _standard_error(differences)
    if se is None:
        low, high = _alike_interval(differences, level, (-1.0, 1.0))
    else:
        (low_x, high_x), (low_y, high_y) = (_interval(v, level, (0.0, 1.0)) for v in (x, y))
        r = _correlation(x, y)
        low = mean - _third_side(x.mean() - low_x, high_y - y.mean(), r)
        high = mean + _third_side(high_x - x.mean(), y.mean() - low_y, r)
    return Estimate(mean, se, low, high, len(shared))


def _standard_error(values: np.ndarray) -> float | None:
    """None where all values are alike, and so for a single one."""
    if np.ptp(values) < _ALIKE:
        return None
    return float(values.std(ddof=1)) / math.sqrt(len(values))


def _interval(values: np.ndarray, level: float, bounds: tuple[float, float]) -> tuple[float, float]:
    se, n = _standard_error(values), len(values)
    if se is None:
        return _alike_interval(values, level, bounds)
    least, span, tail = bounds[0], bounds[1] - bounds[0], (1.0 - level) / 2.0
    p = (float(values.mean()) - least) / span
    # The variance is itself an estimate: Student's t for the normal. No values within bounds vary
    # more than n questions that are right or wrong.
    certainty = (ndtri(tail) / stdtrit(_degrees_of_freedom(values), tail)) ** 2
    effective = max(n, certainty * p * (1.0 - p) / (se / span) ** 2)
    low = betaincinv(p * effective, (1.0 - p) * effective + 1.0, tail)
    high = betaincinv(p * effective + 1.0, (1.0 - p) * effective, 1.0 - tail)
    return least + span * float(low), least + span * float(high)


def _degrees_of_freedom(values: np.ndarray) -> float:
    """Those of the variance (Satterthwaite): fewer than n - 1 where a few problems make it up."""
    n, deviations = len(values), values - values.mean()
    kurtosis = float((deviations**4).mean()) / float(values.var(ddof=1)) ** 2
    return min(n - 1.0, 2.0 * n / (kurtosis - (n - 3.0) / (n - 1.0)))


def _alike_interval(
    values: np.ndarray, level: float, bounds: tuple[float, float]
) -> tuple[float, float]:
    """The interval where all values are the same, so that their variance tells nothing."""
    # Clopper and Pearson's bound for n of n: the least share of all problems that have this
    # value. The others may have any.
    share = ((1.0 - level) / 2.0) ** (1.0 / len(values))
    mean = float(values.mean())
    return share * mean + (1.0 - share) * bounds[0], share * mean + (1.0 - share) * bounds[1]


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson's r times 1 - 2/n: values that go together in a sample do so less outside it."""
    if np.ptp(x) < _ALIKE or np.ptp(y) < _ALIKE:
        return 0.0
    return float(np.corrcoef(x, y)[0, 1]) * (1.0 - 2.0 / len(x))


def _third_side(u: float, v: float, r: float) -> float:
    """Half-widths add as sides of a triangle: at a right angle where they are independent."""
    return math.sqrt(max(0.0, u * u + v * v - 2.0 * r * u * v))
