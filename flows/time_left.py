"""Estimates the time that a run has left."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping


class TimeLeft:
    """Estimates the rest of a run from the shards that are left and what such shards took."""

    def __init__(self) -> None:
        self._left: Counter[str] = Counter()
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._done: Counter[str] = Counter()

    def expect(self, shards: Mapping[str, int]) -> None:
        """Shards of the whole run by stage."""
        self._left = Counter(shards)

    def record(self, stage: str, shards: int, cached: int, seconds: float) -> None:
        """A stage ended; only its shards that were not cached say how long one takes."""
        self._left[stage] -= shards
        if shards > cached:
            self._done[stage] += shards - cached
            self._seconds[stage] += seconds

    def seconds(self) -> float | None:
        """Seconds left; None until something was timed.

        A stage that was never timed counts as the mean of those that were.
        """
        if not self._done:
            return None
        mean = sum(self._seconds.values()) / self._done.total()
        rates = {stage: self._seconds[stage] / n for stage, n in self._done.items()}
        return sum(n * rates.get(stage, mean) for stage, n in self._left.items() if n > 0)
