"""What the history promises, and what a plan says, with scripted engines.

1. Damage to any file of a run is named and mended: parts of every table, records of results and
   of the run, rows of executions; nothing else runs again, and every table ends as it was.
2. Two swapped files are both found.
3. An execution that is killed has a row that says so once the run goes on.
4. Work that was repeated, killed or failed is counted by `wasted_work`.
5. A store that was moved, or copied, goes on without running anything.
6. A plan before the first run, of a finished run, and of a changed one, is what then happens,
   names the field that changed, and writes nothing.
7. A fork with more rounds, or another filter rule that keeps the same self-edits, trains only
   what follows from the change; it keeps its parent's shards, and outlives it.
8. Work done again with other bits replaces what stood there: no row is doubled.
9. The standing of a run says what is left.
10. A crafted record never runs code: not by a pickle, a class to make, or a library to use.
11. Weights that were removed on purpose are no damage; what needs them trains them again, and
    those that another run shares stay.
12. Rows of executions that failed, were killed or were done again have a second copy as well, and
    one that had ended when a kill came gets no second row.
13. Another version of the code or of its libraries, which writes the same rows in other bytes,
    goes on with what is done.
"""

from __future__ import annotations

import base64
import json
import pickle
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

import storage.executions
import storage.parts
import storage.store
from flows.expected import expected_stages
from flows.standing import run_standing
from seal_core.errors import EngineError, InputError, StageError
from storage.executions import KILLED, begin_execution, settle_killed
from storage.files import LocalFiles
from storage.pruning import prune_adapters
from storage.records import read_record, write_record
from storage.store import Store
from tests.semantics.conftest import Runner
from tests.semantics.runs import (
    KINDS,
    N_HELDOUT,
    N_TRAIN,
    K,
    ask,
    damage,
    files_of,
    method_tables,
    snapshot,
    tables,
)
from tests.semantics.scripted import Scripted

DAMAGED = [
    *("problems/run=a", "questions/run=a", "self_edits/run=a/round=0", "adapters/run=a/round=0"),
    *("answers/run=a", "scores/run=a", "selections/run=a", "policies/run=a/round=-1"),
    *("policies/run=a/round=0", "stages/run=a", "runs/run=a", "_results", "_runs", "store.json"),
]


@pytest.mark.parametrize("i", range(len(DAMAGED)), ids=DAMAGED)
def test_damage_is_named_and_mended(done: Runner, store: Path, i: int) -> None:
    """1"""
    before, rows = files_of(store), tables(store)
    victim = next(path for path in before if path.startswith(DAMAGED[i]))
    for kind in (
        KINDS if victim.startswith(("_", "stages", "runs", "store")) else KINDS[i % 3 :][:1]
    ):
        (store / victim).write_bytes(before[victim])
        damage(store / victim, kind)
        again = done()
        assert any(victim in note for note in done.notes), (kind, done.notes)
        assert len(again.generated) <= 2 * K * 2
        assert len(again.trained) <= 2 * K
        assert tables(store) == rows
        after = files_of(store)
        changed = {k for k in before if after.get(k) != before[k]}
        # The record of a shard that ran again tells of its last execution.
        assert {k for k in changed if not k.startswith(("_results/", "stages/"))} == set()
        n_rows = len([k for k in before if k.startswith("stages/")])
        assert ask(store, "SELECT count(*) FROM stages")[0][0] >= n_rows
    done()
    assert done.notes == []


def test_a_damaged_part_without_its_record(done: Runner, store: Path) -> None:
    """1"""
    rows = tables(store)
    part = min(store.glob("scores/run=a/round=0/part-*.parquet"))
    damage_footer(part)
    for record in [p for p in (store / "_results").iterdir() if part.name in p.read_text()]:
        record.unlink()
    done()
    assert any(f"{part.relative_to(store)}: the part is damaged" in note for note in done.notes)
    assert tables(store) == rows


def damage_footer(part: Path) -> None:
    """Where the type of a field should be, is none."""
    data = part.read_bytes()
    start = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    part.write_bytes(data[:start] + b"\xff" * 8 + data[start + 8 :])


@pytest.mark.parametrize("place", ["answers/run=a/round=0", "stages/run=a", "_results"])
def test_swapped_files_are_found(done: Runner, store: Path, place: str) -> None:
    """2"""
    rows = tables(store)
    one, two = [path for path in files_of(store) if path.startswith(place)][:2]
    a, b = (store / one).read_bytes(), (store / two).read_bytes()
    (store / one).write_bytes(b)
    (store / two).write_bytes(a)
    done()
    for victim in (one, two):
        assert any(victim in note for note in done.notes), (victim, done.notes)
    assert tables(store) == rows


def test_a_killed_execution_has_a_row(done: Runner, store: Path) -> None:
    """3, 4"""
    opened = Store.open(str(store))
    row = next(r for _, r in opened.rows("stages", "a") if r.label == "finetune round_0")
    killed = replace(row, ended_at=None)
    begin_execution(opened, "a", 0, killed)
    assert run_standing(opened, "a").in_flight == 1
    done()
    assert done.notes == ["1 shards were in flight when the run was ended; they run again"]
    assert run_standing(opened, "a").in_flight == 0
    rows = ask(store, "SELECT label, ended_at, seconds FROM stages WHERE error = '" + KILLED + "'")
    assert rows == [("finetune round_0", None, None)]
    assert ask(store, "SELECT n_killed, n_failed, n_repeated FROM wasted_work") == [(1, 0, 0)]


def test_repeated_work_is_counted(done: Runner, store: Path) -> None:
    """4"""
    assert ask(store, "FROM wasted_work") == []
    next(store.glob("answers/run=a/round=0/*.parquet")).unlink()
    done()
    found = ask(store, "SELECT stage, n_killed, n_failed, n_repeated FROM wasted_work")
    assert found == [("evaluate", 0, 0, 1)]


def test_rows_of_failed_and_superseded_work_have_a_second_copy(done: Runner, store: Path) -> None:
    """1, 12"""
    opened = Store.open(str(store))
    row = next(r for _, r in opened.rows("stages", "a") if r.label == "finetune round_0")
    begin_execution(opened, "a", 0, replace(row, ended_at=None, started_at="2026-01-01"))
    next(store.glob("answers/run=a/round=0/*.parquet")).unlink()
    done()  # One execution was killed, and one is done again.
    rows = sorted(ask(store, "FROM stages"), key=str)
    copies = sorted(store.glob("_executions/a/*.json"))
    assert len(copies) == 2
    for kind in KINDS:
        for copy in copies:
            round_index, kept = storage.executions._read(opened, str(copy.relative_to(store)))
            ref = opened.append_part("stages", [kept], run="a", round_index=round_index)
            damage(store / ref.path, kind)
            done()
            assert any(ref.path in note for note in done.notes), done.notes
            assert sorted(ask(store, "FROM stages"), key=str) == rows
    for kind in KINDS[1:]:
        before = copies[0].read_bytes()
        damage(copies[0], kind)
        done()
        assert any(copies[0].name in n and n.endswith("written again") for n in done.notes)
        assert copies[0].read_bytes() == before
    done()
    assert done.notes == []


def test_an_execution_that_had_ended_gets_no_second_row(done: Runner, store: Path) -> None:
    """12"""
    opened = Store.open(str(store))
    row = next(r for _, r in opened.rows("stages", "a") if r.label == "finetune round_0")
    rows = sorted(ask(store, "FROM stages"), key=str)
    note = begin_execution(opened, "a", 0, replace(row, ended_at=None))
    write_record(opened.files, note, {"round": 0, "row": asdict(row)})  # And then: kill -9.
    assert settle_killed(opened, "a") == 0
    assert not (store / note).exists()
    assert sorted(ask(store, "FROM stages"), key=str) == rows


@pytest.mark.parametrize("how", [shutil.move, shutil.copytree])
def test_a_store_elsewhere_goes_on(done: Runner, inputs: Path, store: Path, how: Any) -> None:
    """5"""
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
    """6"""
    plan = run.plan()
    assert not store.exists()
    assert plan.compared is None
    config = run.config({})
    expected = expected_stages(config, N_TRAIN // 2, N_HELDOUT // 2)
    assert [(s.stage, s.label, s.round_index, s.shards) for s in plan.stages] == [
        (s.stage, s.label, s.round_index, s.shards) for s in expected
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


def test_a_fork_with_more_rounds_trains_what_follows(run: Runner, store: Path) -> None:
    """7"""
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
    for path in store.glob("*/run=a"):
        shutil.rmtree(path)
    alone = run(name="b", fork=None, run__rounds=2)
    assert (alone.generated, alone.trained, alone.updates) == ([], [], 0)


def test_a_rule_that_keeps_the_same_trains_nothing(done: Runner, store: Path) -> None:
    """7"""
    fork = done(name="b", fork="a", filter__min_gain=-1.0)
    kept = ask(store, "SELECT run, count(*) FROM selections WHERE kept GROUP BY run ORDER BY run")
    assert kept == [("a", N_TRAIN), ("b", N_TRAIN)]
    assert (fork.generated, fork.trained, fork.updates) == ([], [], 0)
    assert ask(store, "SELECT stage FROM stages WHERE run = 'b'") == [("filter",)]


def test_only_a_run_that_exists_is_forked(done: Runner, store: Path) -> None:
    """7"""
    with pytest.raises(InputError, match="no run 'x' in this store; it has: a"):
        done(name="b", fork="x")
    done(name="c")
    with pytest.raises(InputError, match="no fork of 'a'"):
        done(name="c", fork="a")


def test_other_bits_replace_what_stood_there(done: Runner, store: Path) -> None:
    """8"""
    before = {name: len(rows) for name, rows in tables(store).items()}

    class Other(Scripted):
        def _train(self, job: Any, out: Path) -> Any:
            return super()._train(replace_seed(job), out)

    next(store.glob("adapters/run=a/round=0/*.parquet")).unlink()
    done(Other())
    assert {name: len(rows) for name, rows in tables(store).items()} == before
    keys = ask(store, "SELECT count(*), count(DISTINCT answer_id) FROM answers")
    assert keys[0][0] == keys[0][1]


def replace_seed(job: Any) -> Any:
    return type(job)(job.adapter_id, job.rows, job.settings, job.seed + 1, job.base_adapters)


def test_the_standing_says_what_is_left(run: Runner, store: Path) -> None:
    """9"""

    def die(name: str, items: Sequence[Any]) -> None:
        if name == "update":
            raise EngineError("gone")

    with pytest.raises(StageError):
        run(Scripted(die))
    opened = Store.open(str(store))
    lines = {line.label: line for line in run_standing(opened, "a").stages}
    assert (lines["finetune round_0"].done, lines["finetune round_0"].left) == (N_TRAIN // 2, 0)
    assert (lines["update round_0"].failed, lines["update round_0"].left) == (1, 1)
    assert lines["sample heldout round_1"].left == N_HELDOUT // 2
    run()
    assert run_standing(opened, "a").left == 0
    run(name="b", fork="a", filter__keep_fraction=0.5)
    lines = {line.label: line for line in run_standing(opened, "b").stages}
    assert (lines["finetune round_0"].done, lines["finetune round_0"].cached) == (0, N_TRAIN // 2)
    assert lines["update round_0"].done == 1


class _Bomb:
    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.touch, (self._path,)


def crafted(kind: str, value: dict[str, Any], fired: Path) -> dict[str, Any]:
    """A record as Prefect's own storage would have it, that runs code where it is decoded."""
    if kind == "pickle":
        bomb = base64.b64encode(pickle.dumps(_Bomb(fired))).decode()
        serializer = {"type": "pickle", "picklelib": "cloudpickle"}
        return {"metadata": {"serializer": serializer}, "result": bomb}
    call = {"__class__": "subprocess.getoutput", "data": [f"touch {fired}"]}
    result = {**value["result"], "identity": {**value["result"]["identity"], "more": call}}
    if kind == "class":
        return {"result": result}
    return {"metadata": {"serializer": {"type": "json", "jsonlib": "os"}}, "result": result}


@pytest.mark.parametrize("kind", ["pickle", "class", "library"])
def test_a_record_with_code_in_it(done: Runner, store: Path, tmp_path: Path, kind: str) -> None:
    """10"""
    rows = tables(store)
    name = f"_results/{next((store / '_results').iterdir()).name}"
    files, fired = LocalFiles(store), tmp_path / "fired"
    write_record(files, name, crafted(kind, read_record(files, name), fired))
    done()
    assert not fired.exists()
    if kind != "class":  # That is plain JSON, and read as such.
        assert any(name in note and "refused" in note for note in done.notes)
    assert tables(store) == rows
    for path, data in files_of(store).items():
        assert not data.startswith(b"\x80") and b"cloudpickle" not in data, path
        if path.endswith(".json"):
            json.loads(data)
    assert snapshot(store).keys() == {k for k in files_of(store) if k.endswith(".parquet")}
    assert method_tables(store)


def test_another_version_takes_over_what_is_done(
    done: Runner, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """13"""
    rows = tables(store)
    monkeypatch.setattr(storage.parts, "CODE_VERSION", "another")
    monkeypatch.setattr(storage.store, "CODE_VERSION", "another")
    monkeypatch.setattr(storage.parts, "COMPRESSION", "snappy")
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


@pytest.mark.parametrize("keep", ["selected", "none"])
def test_pruned_weights_are_trained_again_when_needed(done: Runner, store: Path, keep: str) -> None:
    """11"""
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


def test_weights_that_a_fork_shares_stay(done: Runner, store: Path) -> None:
    """11"""
    done(name="b", fork="a", filter__keep_fraction=0.5)
    pruned = prune_adapters(Store.open(str(store)), "a", "none")
    shared = "SELECT count(DISTINCT uri) FROM adapters WHERE run = 'a'"
    only_a = f"{shared} AND uri NOT IN (SELECT uri FROM adapters WHERE run = 'b')"
    assert pruned.removed == ask(store, only_a)[0][0] > 0
    again = done(name="b", fork="a", filter__keep_fraction=0.5)
    assert (again.generated, again.trained, done.notes) == ([], [], [])
