"""Intervals over problems: by hand, simulated coverage, and published figures.

1. They are the textbook's, where a textbook has one.
2. They stay within the values that there are, and have a width however alike the values.
3. They cover the truth at their level: rare and common, with questions of a passage alike or not.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest

from seal_core.rewards.intervals import (
    Estimate,
    mean_interval,
    paired_difference,
)

SAMPLES = 1000
"""Simulated experiments per case: a coverage is known to about .007."""


def test_verdicts_have_clopper_and_pearsons_interval():
    """1: one of ten, and 80 of 100, whose variance is Student's with 99 degrees of freedom."""
    found = mean_interval([1.0] + [0.0] * 9)
    assert (found.mean, found.se, found.n) == (0.1, pytest.approx(0.1), 10)
    assert (found.low, found.high) == pytest.approx((0.0025, 0.4450), abs=5e-5)
    found = mean_interval([1.0] * 80 + [0.0] * 20)
    assert (found.low, found.high) == pytest.approx((0.7082, 0.8733), abs=5e-5)


def test_far_from_its_bounds_an_interval_is_students():
    """1"""
    found = mean_interval([1.0, 2.0, 3.0, 4.0, 5.0], bounds=(-1e4, 1e4))
    half = 2.776445 * np.sqrt(2.5 / 5)
    assert found.n == 5
    assert (found.mean, found.low, found.high) == pytest.approx(
        (3.0, 3.0 - half, 3.0 + half), rel=0.01
    )


def test_no_values_have_no_interval():
    """1"""
    assert mean_interval([]) == Estimate(None, None, None, None, 0)
    assert paired_difference({"p": 1.0}, {"q": 1.0}) == Estimate(None, None, None, None, 0)


@pytest.mark.parametrize("value", [1.5, -0.5, float("nan")])
def test_a_value_outside_its_bounds_is_refused(value):
    """2"""
    with pytest.raises(ValueError, match=r"is not within the bounds \(0\.0, 1\.0\)"):
        mean_interval([0.5, value])
    assert mean_interval([0.5, 1.0 + 1e-12]).n == 2  # By rounding.


@pytest.mark.parametrize(
    ("value", "n", "low", "high"),
    [
        (0.5, 1, 0.0125, 0.9875),
        (1.0, 1, 0.025, 1.0),
        (1.0, 2, 0.1581, 1.0),
        (0.0, 2, 0.0, 0.8419),
        (1.0, 100, 0.9638, 1.0),
        (0.5, 10, 0.3458, 0.6542),
    ],
)
def test_alike_values_are_no_certainty(value, n, low, high):
    """1, 2: n of n right has the binomial's exact bound, 0.025^(1/n)."""
    found = mean_interval([value] * n)
    assert (found.mean, found.se, found.n) == (value, None, n)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-4)


def test_alike_differences_are_no_certainty():
    """2: equal up to rounding: 0.3 - 0.1 is not 0.4 - 0.2."""
    found = paired_difference({"p": 0.3, "q": 0.4}, {"p": 0.1, "q": 0.2})
    share = 0.025**0.5
    assert found.se is None
    assert (found.low, found.high) == pytest.approx((1.2 * share - 1, 1 - 0.8 * share))
    one = paired_difference({"p": 1.0}, {"p": 0.0})
    assert (one.mean, one.se, one.n) == (1.0, None, 1)
    assert (one.low, one.high) == pytest.approx((-0.95, 1.0))


def _near_the_ends(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    n = int(rng.integers(2, 30))
    values = rng.binomial(3, rng.choice([0.01, 0.05, 0.95, 0.99], size=(2, 1)), size=(2, n)) / 3
    return values[0], values[1]


def test_every_interval_has_a_width_within_its_bounds():
    """2"""
    rng = np.random.default_rng(5)
    for _ in range(SAMPLES):
        x, y = _near_the_ends(rng)
        for found, least, greatest in (
            (mean_interval(x), 0.0, 1.0),
            (mean_interval(x - y, bounds=(-1.0, 1.0)), -1.0, 1.0),
            (paired_difference(_by_id(x), _by_id(y)), -1.0, 1.0),
        ):
            assert found.mean is not None and found.low is not None and found.high is not None
            assert least <= found.low <= found.mean <= found.high <= greatest
            # Nothing is sure to less than half a problem.
            assert found.high - found.low > 0.5 / len(x)


def _by_id(values: np.ndarray) -> dict[str, float]:
    return {str(i): float(value) for i, value in enumerate(values)}


def _accuracies(
    n: int, asked: int, p: float, alike: float
) -> Callable[[np.random.Generator], np.ndarray]:
    """Accuracies of n problems; questions of one are correlated by `alike` (beta-binomial)."""

    def draw(rng: np.random.Generator) -> np.ndarray:
        beta = (1 - alike) / alike if alike else 0.0
        chance = rng.beta(p * beta, (1 - p) * beta, n) if alike else p
        return rng.binomial(asked, chance, n) / asked

    return draw


def _covered(found: Estimate, truth: float) -> bool:
    assert found.low is not None and found.high is not None
    return found.low <= truth <= found.high


@pytest.mark.parametrize("p", [0.02, 0.5, 0.98])
@pytest.mark.parametrize(("n", "asked"), [(100, 1), (20, 5), (100, 6), (25, 3), (5, 5)])
@pytest.mark.parametrize("alike", [0.0, 0.3, 0.6])
def test_means_are_covered(n, asked, alike, p):
    """3: 100 questions in 100 or 20 passages, and the shapes of docs/results.md."""
    rng = np.random.default_rng(7)
    draw = _accuracies(n, asked, p, alike if asked > 1 else 0.0)
    hits = sum(_covered(mean_interval(draw(rng)), p) for _ in range(SAMPLES))
    assert hits / SAMPLES >= 0.93


@pytest.mark.parametrize(
    ("p", "q"), [(0.02, 0.02), (0.5, 0.5), (0.98, 0.98), (0.1, 0.02), (0.5, 0.02)]
)
@pytest.mark.parametrize(("n", "asked"), [(100, 1), (20, 5), (100, 6)])
@pytest.mark.parametrize("alike", [0.0, 0.3, 0.6])
def test_differences_are_covered(n, asked, alike, p, q):
    """3: the same problems by two policies; Student's t covers 20 passages at .1 and .02 to .90."""
    rng = np.random.default_rng(8)
    first, second = (_accuracies(n, asked, m, alike if asked > 1 else 0.0) for m in (p, q))
    hits = 0
    for _ in range(SAMPLES):
        # The same state draws passages that are hard or easy for both.
        seed = int(rng.integers(2**32))
        other = seed if alike else seed + 1
        a, b = first(np.random.default_rng(seed)), second(np.random.default_rng(other))
        hits += _covered(paired_difference(_by_id(a), _by_id(b)), p - q)
    assert hits / SAMPLES >= 0.93


@pytest.mark.parametrize("share", [0.01, 0.03, 0.1])
@pytest.mark.parametrize("p", [0.02, 0.3])
def test_rare_changes_are_covered(p, share):
    """3: one answer of five turns right in this share of passages, and nothing else changes."""
    rng = np.random.default_rng(9)
    before, hits, truth = _accuracies(100, 5, p, 0.3), 0, []
    rounds = []
    for _ in range(SAMPLES):
        b = before(rng)
        able = b < 0.99
        rounds.append((b + (able & (rng.random(100) < share)) / 5, b))
        truth.append(share * able.mean() / 5)
    expected = float(np.mean(truth))
    for a, b in rounds:
        hits += _covered(paired_difference(_by_id(a), _by_id(b)), expected)
    assert hits / SAMPLES >= 0.93


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
