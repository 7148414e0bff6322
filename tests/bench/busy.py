"""Measures the share of time in which a GPU runs a kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from tests.bench.timing import Sample

Interval = tuple[float, float]
"""Start and end, in any unit."""


def covered(intervals: Iterable[Interval]) -> float:
    """Length of the union of intervals, which may overlap and come in any order."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(intervals):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def kernels(events: Iterable[Any]) -> list[Interval]:
    """When each kernel ran, in ns, from Kineto's events; copies and annotations are none."""
    return [
        (event.start_ns(), event.start_ns() + event.duration_ns())
        for event in events
        if event.device_type() == DeviceType.CUDA
        and not event.is_user_annotation()
        and not event.name().startswith(("Memcpy", "Memset"))
    ]


def busy_share(run: Callable[[], Sample], device: torch.device) -> float | None:
    """Share of a run's wall time in which at least one kernel runs; None on a CPU.

    The profiler slows the host, so it is a lower bound of a run without one. Its hooks stay with
    the process: measure nothing afterwards.

    Raises:
        RuntimeError: The profiler saw no kernel.
    """
    if device.type != "cuda":
        run()
        return None
    with profile(activities=[ProfilerActivity.CUDA]) as found:
        sample = run()
    # Its own events are objects of Python with many fields, too slow for a million kernels.
    assert found.profiler is not None and found.profiler.kineto_results is not None
    intervals = kernels(found.profiler.kineto_results.events())
    if not intervals:
        raise RuntimeError("the profiler saw no kernel: it may not be allowed to")
    return covered(intervals) / 1e9 / sample.wall
