"""What is done is used again, and a plan says beforehand what is not, with scripted engines.

1. A store that was moved, or copied, goes on without running anything.
2. A plan before the first run, of a finished run, and of a changed one, is what then happens,
   names the field that changed, and writes nothing.
3. A fork with more rounds, or another filter rule that keeps the same self-edits, trains only
   what follows from the change; it keeps its parent's shards, and outlives it.
4. Weights that were removed on purpose are no damage; what needs them trains them again, also if
   other bits come of it, and those that another run shares stay.
5. A fork with more self-edits or repeats, or fewer, makes what is new only, and ends with the rows
   of a run that began so. What was made from other rows is made again.
6. Another version of the code or of its libraries, which writes the same rows in other bytes,
   goes on with what is done.
7. What one run refuses since too many units failed, another one keeps.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import storage.runs.history
import storage.store
import storage.tables.encoding
from flows.seal import restem
from flows.views.standing import run_standing
from seal_core.errors import InputError, StageError
from storage.runs.pruning import prune_adapters
from storage.runs.registry import list_runs
from storage.store import Store
from tasks.caching.verifying import verify_runs
from tasks.running.count import Count
from tests.long import first_of
from tests.semantics.conftest import Runner
from tests.semantics.runs import (
    N_HELDOUT,
    N_TRAIN,
    ROOT,
    K,
    ask,
    damage,
    files_of,
    tables,
)
from tests.semantics.scripted import Scripted


@pytest.mark.parametrize(
    "how", [pytest.param(shutil.move, marks=pytest.mark.long), shutil.copytree]
)
def test_a_store_elsewhere_goes_on(done: Runner, inputs: Path, store: Path, how: Any) -> None:
    """1"""
    before = files_of(store)
    other = store.parent / "else" / "where's [it]"
    other.parent.mkdir()
    how(store, other)
    if store.exists():
        shutil.rmtree(store)
    again = Runner(inputs, other)()
    assert (again.generated, again.trained, again.updates) == ([], [], 0)
    assert files_of(other) == before


def test_a_plan_is_what_then_happens(run: Runner, store: Path) -> None:
    """2"""
    plan = run.plan()
    assert not store.exists()
    assert plan.compared is None
    count = Count({"train": N_TRAIN // 2, "heldout": N_HELDOUT // 2})
    restem(count, run.config({}))
    assert [(s.stage, s.label, s.round_index, s.shards) for s in plan.stages] == [
        (s.stage, s.label, s.round_index, s.shards) for s in count.stages
    ]
    assert all(stage.cached == 0 for stage in plan.stages)
    assert plan.stages[0].reasons == ("not done yet",)
    run()
    before = files_of(store)
    assert all(s.cached == s.shards and not s.reasons for s in run.plan().stages)
    changed = run.plan("b", "a", finetune__lr=0.01)
    why = {stage.label: stage for stage in changed.stages}
    assert why["sample round_0"].cached == why["sample round_0"].shards
    assert why["finetune round_0"].reasons == ("settings.lora.lr: 0.001 -> 0.01",)
    assert why["evaluate round_0"].reasons == ("after finetune round_0",)
    assert why["update round_0"].reasons == ("after filter round_0",)
    assert why["sample heldout round_1"].reasons == ("after update round_0",)
    assert changed.compared == "a"
    refused = run.plan(finetune__lr=0.01).refused
    assert refused == ["finetune.lr: 0.001 -> 0.01"]
    next(store.glob("selections/run=a/round=0/*.parquet")).unlink()
    (reason,) = {s.label: s for s in run.plan().stages}["filter round_0"].reasons
    assert "missing" in reason
    assert files_of(store) == {k: v for k, v in before.items() if not k.startswith("selections/")}


def remove(store: Path, run: str) -> None:
    """The command of docs/storage.md, as typed."""
    (line,) = re.findall("^cd seal-store && (rm .*)$", (ROOT / "docs/storage.md").read_text(), re.M)
    subprocess.run(line.replace("old", run), shell=True, cwd=store, check=True)
    assert not [p for p in store.rglob("*") if p.stem in (run, f"run={run}")]


def test_a_fork_with_more_rounds_trains_what_follows(run: Runner, store: Path) -> None:
    """3"""
    first = run()
    fork = run(name="b", fork="a", run__rounds=2, execution__shard_size=5)
    again = set(first.trained) & set(fork.trained)
    matched = "condition = 'input_only_matched'"
    assert again == {
        row[0] for row in ask(store, f"SELECT adapter_id FROM adapters WHERE {matched}")
    }
    assert fork.updates == 1
    rows = ask(store, "SELECT run, parent_run, shard_size FROM runs ORDER BY run")
    assert rows == [("a", None, 2), ("b", "a", 2)]
    assert ask(store, "SELECT DISTINCT round FROM stages WHERE run = 'b' ORDER BY 1") == [
        (-1,),
        (1,),
        (2,),
    ]
    remove(store, "a")
    assert [row.run for row in list_runs(Store.open(str(store)))] == ["b"]
    alone = run(name="b", fork=None, run__rounds=2)
    assert (alone.generated, alone.trained, alone.updates) == ([], [], 0)


def test_a_rule_that_keeps_the_same_trains_nothing(done: Runner, store: Path) -> None:
    """3"""
    fork = done(name="b", fork="a", selection__min_gain=-1.0)
    kept = ask(store, "SELECT run, count(*) FROM selections WHERE kept GROUP BY run ORDER BY run")
    assert kept == [("a", N_TRAIN), ("b", N_TRAIN)]
    assert (fork.generated, fork.trained, fork.updates) == ([], [], 0)
    assert ask(store, "SELECT stage FROM stages WHERE run = 'b'") == [("filter",)]


def rows_of_b(store: Path) -> dict[str, list[Any]]:
    """All that a run made; its own row tells when."""
    return {k: v for k, v in tables(store, "WHERE run = 'b'").items() if k != "runs"}


@pytest.mark.parametrize("pruned", first_of(False, True))
def test_more_of_the_same_makes_the_new_ones_only(
    done: Runner, inputs: Path, store: Path, tmp_path: Path, pruned: bool
) -> None:
    """5"""
    more = {"sample__edits_per_problem": K + 2, "finetune__repeats": 3}
    if pruned:
        prune_adapters(Store.open(str(store)), "a", "none", 0)
    fork = done(name="b", fork="a", **more)
    fresh = Runner(inputs, tmp_path / "fresh")(name="b", **more)
    made = "SELECT adapter_id FROM adapters WHERE run = 'a' AND condition = 'round_0'"
    before = {row[0] for row in ask(store, f"{made} AND split = 'train'")}
    assert len(before) == N_TRAIN * K
    new = N_TRAIN * ((K + 2) * 3 - K)
    where = "WHERE run = 'b' AND split = 'train'"
    ids = {row[0] for row in ask(store, f"SELECT adapter_id FROM adapters {where}")}
    assert before < ids
    if not pruned:
        assert len(set(fork.trained) & ids) == len(ids - before) == new
    edits = "SELECT self_edit_id, sample_index FROM self_edits WHERE split = 'train'"
    known = {edit for edit, _ in ask(store, f"{edits} AND run = 'a'")}
    assert not known & set(fork.generated)
    reused = "SELECT sum(n_reused)::INT FROM stages WHERE run = 'b'"
    assert ask(store, f"{reused} AND label = 'evaluate round_0'") == [(N_TRAIN * K,)]
    assert len(fork.generated) < len(fresh.generated)
    # Two policies differ only if other self-edits were kept.
    policies = "SELECT list(DISTINCT policy_id) FROM policies WHERE parent IS NOT NULL GROUP BY run"
    assert fork.updates == len({tuple(row[0]) for row in ask(store, policies)}) - 1
    assert rows_of_b(store) == rows_of_b(tmp_path / "fresh")


def test_a_name_may_go_to_a_fork_of_its_own_fork(done: Runner, store: Path) -> None:
    """5"""
    done(name="b", fork="a", selection__min_gain=-1.0)
    remove(store, "a")
    done(name="a", fork="b", finetune__lr=0.01)
    assert run_standing(Store.open(str(store)), "a").left == 0


def test_less_of_the_same_makes_nothing(done: Runner, store: Path) -> None:
    """5"""
    fork = done(name="b", fork="a", sample__edits_per_problem=K - 1)
    ids = {row[0] for row in ask(store, "SELECT self_edit_id FROM self_edits WHERE run = 'b'")}
    assert not {i for i in fork.generated if i in ids and "heldout" not in i} & {
        row[0] for row in ask(store, "SELECT self_edit_id FROM self_edits WHERE split = 'train'")
    }
    assert not set(fork.trained) & {
        row[0] for row in ask(store, "SELECT adapter_id FROM adapters WHERE split = 'train'")
    }


@pytest.mark.parametrize("table", first_of("adapters", "self_edits"))
def test_units_of_damaged_rows_are_made_again(
    done: Runner, inputs: Path, store: Path, tmp_path: Path, table: str
) -> None:
    """5"""
    for path in store.glob(f"{table}/run=a/round=0/*.parquet"):
        damage(path, "flip")
    more = {"sample__edits_per_problem": K + 1}
    done(name="b", fork="a", **more)
    done()  # Else no query of the table reads the damaged files of run a.
    Runner(inputs, tmp_path / "fresh")(name="b", **more)
    assert rows_of_b(store) == rows_of_b(tmp_path / "fresh")


def test_only_a_run_that_exists_is_forked(done: Runner, store: Path) -> None:
    """3"""
    with pytest.raises(InputError, match="no run 'x' in this store; it has: a"):
        done(name="b", fork="x")
    done(name="c")
    with pytest.raises(InputError, match="no fork of 'a'"):
        done(name="c", fork="a")


def test_another_version_takes_over_what_is_done(
    done: Runner, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """6"""
    rows = tables(store)
    monkeypatch.setattr(storage.tables.encoding, "CODE_VERSION", "another")
    monkeypatch.setattr(storage.tables.row_files, "CODE_VERSION", "another")
    monkeypatch.setattr(storage.tables.encoding, "COMPRESSION", "snappy")
    assert all(stage.cached == stage.shards for stage in done.plan().stages)
    again = done()
    assert (again.generated, again.trained, again.updates) == ([], [], 0)
    assert done.notes == []
    fork = done(name="b", fork="a", run__rounds=2)
    assert len(fork.trained) < N_TRAIN * K + 4 * N_HELDOUT and fork.updates == 1
    assert tables(store, "WHERE run = 'a'") == rows
    # A part that is made again is in other bytes now, and what follows from it stays cached.
    next(store.glob("self_edits/run=a/round=0/*.parquet")).unlink()
    again = done()
    assert again.generated and (again.trained, again.updates) == ([], 0)


def weights_of(store: Path) -> int:
    return len(list(store.rglob("adapter_model.safetensors")))


@pytest.mark.parametrize("keep", first_of("none", "selected"))
def test_pruned_weights_are_trained_again_when_needed(done: Runner, store: Path, keep: str) -> None:
    """4"""
    before, rows = files_of(store), tables(store)
    done(execution__keep_adapters=keep)
    # The policy's adapter, and in round 0 those of the self-edits that were kept.
    assert weights_of(store) == 1 + (N_TRAIN if keep == "selected" else 0)
    again = done(execution__keep_adapters=keep)
    assert (again.generated, again.trained, done.notes) == ([], [], [])
    victim = next(path for path in before if path.startswith("answers/run=a/round=1"))
    (store / victim).unlink()
    needed = done()
    assert 0 < len(needed.trained) <= N_HELDOUT
    assert tables(store) == rows
    assert weights_of(store) == 1 + (N_TRAIN if keep == "selected" else 0) + N_HELDOUT


def is_of(answer: Any, condition: str) -> bool:
    return answer.condition == condition and answer.adapter_id is not None


class Other(Scripted):
    """Training that is not repeatable to the bit."""

    def _train(self, job: Any, out: Path) -> Any:
        return super()._train(replace(job, seed=job.seed + 1), out)


def test_weights_that_come_out_otherwise(done: Runner, store: Path) -> None:
    """4"""
    done(execution__keep_adapters="none")
    done(name="b", fork="a", selection__min_gain=-1.0, execution__keep_adapters="none")
    opened = Store.open(str(store))
    assert weights_of(store) == 1
    for label in ("input_only", "round_1"):
        part = next(ref for ref in opened.refs("answers", "a") if is_of(opened.read(ref)[0], label))
        (store / part.path).unlink()
        needed = done(Other(), execution__keep_adapters="none")
        assert needed.trained and needed.generated
        again = done(execution__keep_adapters="none")
        assert (again.generated, again.trained, again.updates, done.notes) == ([], [], 0, [])
    for name, own in (("a", {}), ("b", {"selection__min_gain": -1.0})):
        again = done(name=name, execution__keep_adapters="none", **own)
        assert (again.generated, again.trained, again.updates, done.notes) == ([], [], 0, [])
    assert verify_runs(opened, ["a", "b"]).problems == []


@pytest.mark.parametrize("strict_first", first_of(False, True))
def test_a_result_that_a_stricter_run_refuses_stays(
    run: Runner, store: Path, strict_first: bool
) -> None:
    """7"""
    fails = Scripted(fails="P0 ")
    if not strict_first:
        run(fails, execution__max_error_share=1.0)
        before = files_of(store)
    with pytest.raises(StageError, match="max_error_share"):
        run(Scripted(fails="P0 "), name="b", execution__max_error_share=0.0)
    again = run(execution__max_error_share=1.0)
    if not strict_first:
        assert (again.generated, again.trained, run.notes) == ([], [], [])
        assert {k: v for k, v in files_of(store).items() if "run=a" in k} == {
            k: v for k, v in before.items() if "run=a" in k
        }
    rest = run(name="b", execution__max_error_share=0.0)
    assert rest.trained and run.notes == []
    failed = "SELECT count(*) > 0 FROM adapters WHERE run = '{}' AND error IS NOT NULL"
    assert ask(store, failed.format("b")) == [(False,)]
    # Both go on with their own rows, which stand in one record now.
    for name, share in (("a", 1.0), ("b", 0.0)):
        again = run(name=name, execution__max_error_share=share)
        assert (again.generated, again.trained, again.updates, run.notes) == ([], [], 0, [])
    assert ask(store, failed.format("a")) == [(True,)]
    assert verify_runs(Store.open(str(store)), ["a", "b"]).problems == []


def test_weights_that_a_fork_shares_stay(done: Runner, store: Path) -> None:
    """4"""
    done(name="b", fork="a", selection__keep_fraction=0.5)
    pruned = prune_adapters(Store.open(str(store)), "a", "none")
    shared = "SELECT count(DISTINCT uri) FROM adapters WHERE run = 'a'"
    only_a = f"{shared} AND uri NOT IN (SELECT uri FROM adapters WHERE run = 'b')"
    assert pruned.shared == pruned.kept > 0
    assert pruned.removed == ask(store, only_a)[0][0] > 0
    again = done(name="b", fork="a", selection__keep_fraction=0.5)
    assert (again.generated, again.trained, done.notes) == ([], [], [])
