"""Times contenders in turn, A B C A B C …, so that a noisy machine troubles all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from tests.bench.floor import synchronize


@dataclass(frozen=True, slots=True)
class Sample:
    """What one run of one contender took, in seconds; `cpu` is over all threads."""

    wall: float
    cpu: float

    def __add__(self, other: Sample) -> Sample:
        return Sample(self.wall + other.wall, self.cpu + other.cpu)

    def __sub__(self, other: Sample) -> Sample:
        return Sample(self.wall - other.wall, self.cpu - other.cpu)

    def __mul__(self, factor: float) -> Sample:
        return Sample(self.wall * factor, self.cpu * factor)


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some repetitions, with the least and the greatest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value."""
        return cls(statistics.median(values), min(values), max(values))

    def __str__(self) -> str:
        if self.low == self.high:
            return number(self.median)
        return f"{number(self.median)} [{number(self.low)}, {number(self.high)}]"


def now() -> Sample:
    """Both clocks."""
    return Sample(time.perf_counter(), time.process_time())


def measure(work: Callable[[], object], device: torch.device) -> Sample:
    """Runs it once."""
    synchronize(device)
    start = now()
    work()
    synchronize(device)
    return now() - start


def interleaved(
    contenders: Mapping[str, Callable[[], Sample]],
    repeats: int,
    tell: Callable[[str], object] = lambda line: None,
) -> dict[str, list[Sample]]:
    """Each contender's samples; repetition i of all comes before repetition i + 1 of any."""
    samples: dict[str, list[Sample]] = {name: [] for name in contenders}
    for repeat in range(repeats):
        for name, run in contenders.items():
            sample = run()
            samples[name].append(sample)
            tell(f"  {repeat + 1}/{repeats} {name}: {sample.cpu:.2f} CPU s, {sample.wall:.2f} s")
    return samples


def number(value: float) -> str:
    """Three digits."""
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}" if value < 10 else f"{value:.1f}"
