"""A run that failed goes on with the same command, wherever and whyever it failed.

1. An error raised in any stage ends the run; what was finished is not done again.
2. A full disk at any write ends the run, with what to do; nothing that was half written counts.
3. An engine that is killed for want of memory is tried again, in any stage that has one.
4. A run that another machine has taken over begins no further shard, and stores none that it was
   at work on; there it goes on.
5. Work that was under way when the run was stopped counts as killed, not as failed; nobody else
   can start the run before it has ended.
"""

from __future__ import annotations

import errno
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, cast

import pytest

import storage.files.local
import storage.runs.leases
import tasks.stages.score
import tasks.stages.select
from flows.views.standing import StageStanding, run_standing
from seal_core.errors import EngineError, StageError
from storage.files.local import LocalFiles
from storage.runs.history import STOPPED
from storage.runs.leases import Lease
from storage.store import Store
from tasks.context import current
from tasks.opening.open_run import Engines
from tasks.opening.preflight import Preflight
from tests.semantics.conftest import Runner
from tests.semantics.runs import ask, method_tables
from tests.semantics.scripted import Scripted
from tests.waiting import HUNG

STAGES = ("sample", "finetune", "evaluate", "score", "filter", "update")
WITH_ENGINE = ("sample", "finetune", "evaluate", "update")
FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture(scope="module")
def undisturbed(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The tables of a run that nothing disturbed."""
    store = tmp_path_factory.mktemp("undisturbed") / "store"
    Runner(inputs, store)()
    return method_tables(store)


def engine_stage(name: str, items: Sequence[Any]) -> str:
    """The stage that a call of an engine belongs to."""
    if name == "generate":
        asked = any("Question:" in item.prompt for item in items)
        return "evaluate" if asked else "sample"
    return {"train": "finetune", "update": "update"}[name]


def failing_engine(stage: str, error: Exception, times: int = 1) -> Scripted:
    """An engine that fails this stage so often."""
    left = iter(range(times))

    def hook(name: str, items: Sequence[Any]) -> None:
        if engine_stage(name, items) == stage and next(left, None) is not None:
            raise error

    return Scripted(hook)


def fail_once(error: Exception, function: Callable[..., Any]) -> Callable[..., Any]:
    left = iter([True])

    def failing(*arguments: Any) -> Any:
        if next(left, False):
            raise error
        return function(*arguments)

    return failing


def executions(store: Path) -> list[tuple[Any, ...]]:
    """Stage, good executions and bad ones of every shard."""
    return ask(
        store,
        """SELECT stage, count(*) FILTER (error IS NULL), count(*) FILTER (error IS NOT NULL)
        FROM stages GROUP BY stage, label, shard""",
    )


def standing(store: Path) -> list[StageStanding]:
    return run_standing(Store.open(str(store)), "a").stages


@pytest.mark.parametrize("stage", STAGES)
def test_an_error_in_any_stage(
    run: Runner,
    store: Path,
    undisturbed: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
) -> None:
    """1"""
    error = ValueError(f"a mistake in {stage}")
    score, select = tasks.stages.score.score_self_edits, tasks.stages.select.make_selection
    if stage == "score":
        monkeypatch.setattr(tasks.stages.score, "score_self_edits", fail_once(error, score))
    if stage == "filter":
        monkeypatch.setattr(tasks.stages.select, "make_selection", fail_once(error, select))
    broken = failing_engine(stage, error)
    with pytest.raises(ValueError, match=f"a mistake in {stage}"):
        run(broken)
    begun = [line for line in standing(store) if line.done + line.failed]
    told = {line.stage: line.last_error for line in begun}
    assert told.pop(stage) == f"ValueError: a mistake in {stage}" and not any(told.values())
    rest = run()
    assert not any(line.last_error for line in standing(store))
    assert method_tables(store) == undisturbed
    assert not set(broken.generated) & set(rest.generated)
    assert not set(broken.trained) & set(rest.trained)
    assert {(good, bad) for name, good, bad in executions(store) if name != stage} == {(1, 0)}
    failed = [row for row in executions(store) if row[2]]
    assert failed == [(stage, 1, 1)]


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Fills the disk at the n-th write from now; all that follow fail too, until it is called
    with -1."""
    left = [-1]
    write, copy = storage.files.local._write_synced, shutil.copyfile

    def take() -> bool:
        left[0] -= left[0] > 0
        return left[0] != 0

    def limited_write(path: Path, data: bytes) -> None:
        if not take():
            path.write_bytes(data[: len(data) // 2])
            raise FULL
        write(path, data)

    def limited_copy(source: Any, target: Any, **options: Any) -> Any:
        if not take():
            raise FULL
        return copy(source, target, **options)

    monkeypatch.setattr(storage.files.local, "_write_synced", limited_write)
    monkeypatch.setattr(shutil, "copyfile", limited_copy)
    yield lambda n: left.__setitem__(0, n)


@pytest.mark.parametrize("n", [3, 14, 47, 88, 120])
def test_a_full_disk(
    run: Runner,
    store: Path,
    undisturbed: dict[str, bytes],
    disk: Callable[[int], None],
    n: int,
) -> None:
    """2"""
    disk(n)
    with pytest.raises((StageError, OSError), match="No space left on device"):
        run()
    disk(-1)
    run()
    assert method_tables(store) == undisturbed
    assert list(store.rglob("*.tmp")) == []
    assert all(good <= 2 and bad <= 1 for _, good, bad in executions(store))


def test_a_full_disk_says_what_to_do(run: Runner, disk: Callable[[int], None]) -> None:
    """2"""
    disk(31)  # A write of a shard, and not of the history.
    with pytest.raises(StageError, match=r"No space left.*free some space.*the same command"):
        run()


@pytest.mark.parametrize("stage", WITH_ENGINE)
def test_an_engine_killed_for_want_of_memory(
    run: Runner, store: Path, undisturbed: dict[str, bytes], stage: str
) -> None:
    """3"""
    killed = EngineError("the engine ended by SIGKILL (often for using too much memory)")
    run(failing_engine(stage, killed, times=1), execution__shard_retries=1)
    assert method_tables(store) == undisturbed
    assert [row for row in executions(store) if row[2]] == [(stage, 1, 1)]


def test_a_run_that_was_taken_over(
    run: Runner, store: Path, undisturbed: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """4"""
    files = cast(Any, LocalFiles(store))  # A lease that is not renewed asks it nothing.
    lease = Lease(files, "_locks/run-a.json", {})
    monkeypatch.setattr(storage.runs.leases, "run_lease", lambda *_: nullcontext(lease))

    def take_over(name: str, items: Sequence[Any]) -> None:
        if engine_stage(name, items) == "finetune":
            lease.lost.set()

    with pytest.raises(StageError, match=r"another machine has taken run 'a' over"):
        run(Scripted(take_over), execution__workers=1)
    assert len(method_tables(store)) < len(undisturbed)
    assert not list(store.glob("adapters/**/*.parquet"))
    lease.lost.clear()
    run()
    assert method_tables(store) == undisturbed
    assert [row for row in executions(store) if row[1:] != (1, 0)] == [("finetune", 1, 1)]


def test_work_that_ctrl_c_ended_counts_as_killed(run: Runner, store: Path) -> None:
    """5"""

    def stop(name: str, items: Sequence[Any]) -> None:
        if engine_stage(name, items) == "finetune":
            current().stopping.set()  # As the end of the run does, before its engines are ended.
            raise EngineError("the engine ended by SIGKILL")

    with pytest.raises(StageError):
        run(Scripted(stop))
    rows = ask(
        store, "SELECT error, ended_at IS NULL, seconds > 0 FROM stages WHERE error NOT NULL"
    )
    assert set(rows) == {(STOPPED, True, True)}
    wasted = ask(
        store, "SELECT DISTINCT n_failed, n_killed > 0, seconds_wasted > 0 FROM wasted_work"
    )
    assert wasted == [(0, True, True)]


def test_work_ends_before_the_run_is_free(run: Runner, store: Path) -> None:
    """5"""
    begun, closed, free = threading.Event(), threading.Event(), list[bool]()

    def hook(name: str, items: Sequence[Any]) -> None:
        if engine_stage(name, items) != "finetune":
            return
        if "P6" in items[0].rows[0].text:  # The first shard.
            assert begun.wait(HUNG)
            raise ValueError("a mistake")
        begun.set()
        assert closed.wait(HUNG)
        time.sleep(0.5)  # A body that has more to do once its engine is gone.
        with Store.open(str(store)).try_lock("run-a", 0) as is_free:
            free.append(is_free)

    class Closing(Scripted):
        @contextmanager
        def open(self, checked: Preflight, store: Store) -> Iterator[Engines]:
            try:
                yield Engines(self, self, self.try_model)
            finally:
                closed.set()

    with pytest.raises(ValueError, match="a mistake"):
        run(Closing(hook), execution__shard_size=1)
    assert free == [False]
