"""What the history of executions promises, with scripted engines.

1. An execution that is killed has a row that says so once the run goes on.
2. Work that was repeated, killed or failed is counted by `wasted_work`.
3. Work done again with other bits replaces what stood there: no row is doubled.
4. The standing of a run says what is left, and during a stage what is done of it.
5. An execution that had ended when a kill came gets no second row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from flows.views.standing import run_standing
from seal_core.errors import EngineError, StageError
from storage.files.json_records import write_record
from storage.runs.history import KILLED, begin_execution, recover_executions
from storage.store import Store
from tests.semantics.conftest import Runner
from tests.semantics.runs import (
    N_HELDOUT,
    N_TRAIN,
    ask,
    tables,
)
from tests.semantics.scripted import Scripted


def test_a_killed_execution_has_a_row(done: Runner, store: Path) -> None:
    """1, 2"""
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
    """2"""
    assert ask(store, "FROM wasted_work") == []
    next(store.glob("answers/run=a/round=0/*.parquet")).unlink()
    done()
    found = ask(store, "SELECT stage, n_killed, n_failed, n_repeated FROM wasted_work")
    assert found == [("evaluate", 0, 0, 1)]


def test_an_execution_that_had_ended_gets_no_second_row(done: Runner, store: Path) -> None:
    """5"""
    opened = Store.open(str(store))
    row = next(r for _, r in opened.rows("stages", "a") if r.label == "finetune round_0")
    rows = sorted(ask(store, "FROM stages"), key=str)
    note = begin_execution(opened, "a", 0, replace(row, ended_at=None))
    write_record(opened.files, note, {"round": 0, "row": asdict(row)})  # And then: kill -9.
    said: list[str] = []
    assert recover_executions(opened, "a", said.append) == 0 and said == []
    assert not (store / note).exists()
    assert sorted(ask(store, "FROM stages"), key=str) == rows


def test_the_standing_says_what_is_left(run: Runner, store: Path) -> None:
    """4"""

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
    run(name="b", fork="a", selection__keep_fraction=0.5)
    lines = {line.label: line for line in run_standing(opened, "b").stages}
    assert (lines["finetune round_0"].done, lines["finetune round_0"].cached) == (0, N_TRAIN // 2)
    assert lines["update round_0"].done == 1


def test_the_standing_during_a_stage(run: Runner, store: Path) -> None:
    """4"""
    seen: list[tuple[int, int, int, int]] = []

    def look(name: str, items: Sequence[Any]) -> None:
        if name == "train":
            standing = run_standing(Store.open(str(store)), "a")
            (line,) = [s for s in standing.stages if s.label == "finetune round_0"]
            seen.append((standing.in_flight, line.done, line.cached, line.left))

    run(Scripted(look), execution__workers=1, execution__shard_size=1)
    # One may be just between its rows and its end.
    assert max(cached for _, _, cached, _ in seen) <= 1
    assert {done + cached + left for _, done, cached, left in seen} == {N_TRAIN}
    assert {done for _, done, _, _ in seen} & set(range(1, N_TRAIN))
    assert max(flight for flight, *_ in seen) <= 3  # Two at a time; a look takes a while.


def test_other_bits_replace_what_stood_there(done: Runner, store: Path) -> None:
    """3"""
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
