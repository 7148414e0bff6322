"""The estimate of the time left, from the shards that are done."""

from __future__ import annotations

import pytest

from flows.progress import TimeLeft


def test_no_estimate_before_every_stage_to_come_was_timed() -> None:
    left = TimeLeft()
    left.expect({"sample": 4, "finetune": 4})
    assert left.seconds() is None
    left.record("sample", shards=2, cached=0, seconds=6.0)
    assert left.seconds() is None
    left.record("finetune", shards=2, cached=0, seconds=20.0)
    assert left.seconds() == pytest.approx(2 * 3.0 + 2 * 10.0)


def test_cached_shards_do_not_say_how_long_one_takes() -> None:
    left = TimeLeft()
    left.expect({"sample": 6})
    left.record("sample", shards=2, cached=2, seconds=0.1)
    assert left.seconds() is None
    left.record("sample", shards=2, cached=1, seconds=5.0)
    assert left.seconds() == pytest.approx(2 * 5.0)
    left.record("sample", shards=2, cached=0, seconds=9.0)
    assert left.seconds() == 0
