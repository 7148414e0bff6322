"""What a user sees of a run at work: how far a stage is, and an estimate of the time left.

1. The estimate is of the shards that are left; a stage that was never timed counts as the others.
2. A stage that is silent for a while says how far it is: shards, units, speed, time left.
3. Units of a stage that has ended do not count for the next one.
"""

from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

import flows.progress
from flows.progress import PlainProgress
from flows.time_left import TimeLeft


def test_the_estimate_is_of_the_shards_that_are_left() -> None:
    """1"""
    left = TimeLeft()
    left.expect({"sample": 4, "finetune": 4})
    assert left.seconds() is None
    left.record("sample", shards=2, cached=0, seconds=6.0)
    assert left.seconds() == pytest.approx(2 * 3.0 + 4 * 3.0)
    left.record("finetune", shards=2, cached=0, seconds=20.0)
    assert left.seconds() == pytest.approx(2 * 3.0 + 2 * 10.0)


def test_cached_shards_do_not_say_how_long_one_takes() -> None:
    """1"""
    left = TimeLeft()
    left.expect({"sample": 6})
    left.record("sample", shards=2, cached=2, seconds=0.1)
    assert left.seconds() is None
    left.record("sample", shards=2, cached=1, seconds=5.0)
    assert left.seconds() == pytest.approx(2 * 5.0)
    left.record("sample", shards=2, cached=0, seconds=9.0)
    assert left.seconds() == 0


@pytest.fixture
def out() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def progress(out: io.StringIO) -> PlainProgress:
    return PlainProgress(Console(file=out, width=200))


def test_a_silent_stage_says_how_far_it_is(
    progress: PlainProgress, out: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    """2"""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    progress.note("begins")
    progress.expect({"sample": 1, "evaluate": 4})
    progress.stage("sample", "sample round_0", 1)
    now[0] += 10
    progress.finish("sample round_0", 0, 1)
    progress.stage("evaluate", "evaluate round_0", 4)
    done = progress.begin("answers", 40)
    done(25)
    progress.advance()
    now[0] += flows.progress.TELL_SECONDS - 1
    progress.tell()
    assert "evaluate round_0" not in out.getvalue()
    now[0] += 1
    progress.tell()
    progress.tell()
    line = out.getvalue().splitlines()[-1]
    assert line == (
        "evaluate round_0: 1 of 4 shards, 25 of 40 answers (0.833 per s), 30 s so far, about 10 s "
        "left of the run"
    )
    assert out.getvalue().count("evaluate round_0: ") == 1
    progress.finish("evaluate round_0", 0, 4)
    now[0] += 100
    progress.tell()
    assert out.getvalue().splitlines()[-1].startswith("evaluate round_0  ")


def test_units_are_of_their_stage(progress: PlainProgress, out: io.StringIO) -> None:
    """3"""
    progress.begin("answers", 5)(5)  # Of no stage.
    progress.stage("sample", "sample round_0", 1)
    late = progress.begin("self-edits", 3)
    progress.finish("sample round_0", 0, 1)
    progress.stage("finetune", "finetune round_0", 1)
    late(3)
    progress._spoke -= flows.progress.TELL_SECONDS
    progress.tell()
    assert "finetune round_0: 0 of 1 shards, 0 s so far" in out.getvalue()
