"""`seal verify` names every damaged file of a store, and changes nothing.

1. A whole store: nothing is damaged, every part is vouched for, also compacted and in a fork.
2. Damage to a file of any kind is named, before and after compaction; nothing is mended.
3. A shard that is to run again is no damage, and is checked like others; nor is a part without a
   digest.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from seal_core.errors import StageError
from storage.runs.compaction import compact
from storage.runs.registry import list_runs
from storage.store import Store
from tasks.caching.verifying import Verified, verify_runs
from tests.semantics.conftest import Runner
from tests.semantics.runs import KINDS, N_TRAIN, damage, files_of
from tests.semantics.scripted import Scripted

PLACES = [
    *("problems", "questions", "self_edits", "adapters", "answers", "scores", "selections"),
    *("policies", "stages", "runs", "_results", "_runs", "_adapters"),
]


def verify(store: Path) -> Verified:
    opened = Store.open(str(store), create=False)
    return verify_runs(opened, [row.run for row in list_runs(opened)])


def test_a_whole_store(done: Runner, store: Path) -> None:
    """1"""
    done(name="b", fork="a", selection__min_gain=0.5)
    before = files_of(store)
    found = verify(store)
    assert (found.runs, found.unproven, found.problems) == (2, 0, [])
    assert found.parts == len([path for path in before if path.endswith(".parquet")])
    assert found.results == len([path for path in before if path.startswith("_results/")])
    assert files_of(store) == before
    assert compact(Store.open(str(store)))
    assert verify(store) == found


@pytest.mark.parametrize("compacted", [False, True])
def test_damage_is_named(done: Runner, store: Path, compacted: bool) -> None:
    """2"""
    if compacted:
        assert compact(Store.open(str(store)))
    before = files_of(store)
    for i, place in enumerate(PLACES):
        victim = next(path for path in before if path.startswith(f"{place}/"))
        kind = KINDS[1 + i % 2]
        damage(store / victim, kind)
        named = victim.rpartition("/")[0] if place == "_adapters" else victim
        found = verify(store)
        assert any(named in problem for problem in found.problems), (victim, found.problems)
        assert (store / victim).read_bytes() != before[victim]
        (store / victim).write_bytes(before[victim])
        (store / victim).unlink()
        found = verify(store)
        # What no result points to, and records themselves, are missed when the run is resumed.
        assert place in ("problems", "questions", "policies", "_results") or found.problems
        (store / victim).write_bytes(before[victim])
    assert verify(store).problems == []


@pytest.mark.parametrize("other", ["answers/run=a/round=0", "scores/run=a/round=0"])
def test_swapped_parts_are_named(done: Runner, store: Path, other: str) -> None:
    """2"""
    one = min((store / "answers/run=a/round=0").glob("*.parquet"))
    two = max((store / other).glob("*.parquet"))
    a, b = one.read_bytes(), two.read_bytes()
    one.write_bytes(b)
    two.write_bytes(a)
    problems = verify(store).problems
    for part in (one, two):
        assert any(problem.startswith(str(part.relative_to(store))) for problem in problems)


def test_a_shard_that_is_to_run_again(run: Runner, store: Path) -> None:
    """3"""
    with pytest.raises(StageError, match="max_error_share"):
        run(Scripted(fails="P6 "), execution__max_error_share=0.1)
    found = verify(store)
    # The passages and questions that no stage has come to yet.
    assert found.problems == [] and found.unproven == 2 * (N_TRAIN // 2)
    part = next(store.glob("adapters/run=a/**/*.parquet"))
    damage(part, "flip")
    assert str(part.relative_to(store)) in verify(store).problems[0]
