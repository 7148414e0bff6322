"""Prefect's own cache decides which shards run, and says so, on a real Prefect server.

1. A first run's task runs are Completed; those of the same run again are Cached, each shard's.
2. A damaged part is a miss: its shard's task run is Completed, those of the others are Cached.
3. With `PREFECT_TASKS_REFRESH_CACHE` every shard runs again, to the same rows.
4. Of two runs at work on the same shards, each shard is Completed in one and Cached in the other.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from prefect import State, flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.settings import PREFECT_TASKS_REFRESH_CACHE, temporary_settings

from flows.seal import restem
from flows.seal_flow import run_rounds
from tasks.opening.preflight import preflight
from tasks.running.count import Count
from tests.semantics.conftest import Notes, Runner
from tests.semantics.runs import N_HELDOUT, N_TRAIN, K, method_tables
from tests.semantics.scripted import Scripted

DEADLINE_SECONDS = 300.0


def start(run: Runner, engine: Scripted, name: str = "a") -> tuple[Counter[str], list[str]]:
    """Runs to the end; states of the task runs, as the server has them, and notes to the user."""
    checked, progress = preflight(run.config({}), name), Notes()
    state = flow(lambda: run_rounds(checked, progress, engine.open), name="test")(return_state=True)
    return states(state, shards(run)), progress.notes


def shards(run: Runner) -> int:
    count = Count({"train": N_TRAIN // 2, "heldout": N_HELDOUT // 2})
    restem(count, run.config({}))
    return count.by_stage.total()


def states(state: State[Any], n: int) -> Counter[str]:
    """The server takes task runs in with events, so the last ones come a little later."""
    run_id = state.state_details.flow_run_id
    assert run_id is not None and state.is_completed()
    wanted = FlowRunFilter(id=FlowRunFilterId(any_=[run_id]))
    end = time.monotonic() + DEADLINE_SECONDS
    while True:
        with get_client(sync_client=True) as client:
            found = client.read_task_runs(flow_run_filter=wanted, limit=200)
        if sum(item.state is not None and item.state.is_final() for item in found) >= n:
            return Counter(str(item.state_name) for item in found)
        assert time.monotonic() < end, [item.state_name for item in found]
        time.sleep(0.2)


def test_states_tell_what_was_cached(run: Runner, store: Path) -> None:
    """1, 2"""
    n = shards(run)
    first, _ = start(run, Scripted())
    assert first == {"Completed": n}
    tables = method_tables(store)
    again = Scripted()
    assert start(run, again) == ({"Cached": n}, [])
    assert (again.generated, again.trained, again.updates) == ([], [], 0)
    part = min(store.glob("self_edits/run=a/round=0/*.parquet"))
    part.write_bytes(part.read_bytes()[:-9])
    mended = Scripted()
    found, notes = start(run, mended)
    assert found == {"Cached": n - 1, "Completed": 1}
    assert len(notes) == 1 and str(part.relative_to(store)) in notes[0]
    assert 0 < len(mended.generated) <= 2 * K and mended.trained == []
    assert method_tables(store) == tables


def test_a_refreshed_cache_runs_all_again(run: Runner, store: Path) -> None:
    """3"""
    start(run, Scripted())
    tables = method_tables(store)
    again = Scripted()
    with temporary_settings({PREFECT_TASKS_REFRESH_CACHE: True}):
        found, _ = start(run, again)
    assert found == {"Completed": shards(run)}
    assert len(again.trained) == N_TRAIN * K + 4 * N_HELDOUT and again.updates == 1
    assert method_tables(store) == tables


def test_a_shard_is_executed_by_one_of_two_runs(run: Runner, store: Path) -> None:
    """4"""
    at_work = threading.Event()

    def slowly(name: str, items: Sequence[Any]) -> None:
        """So long that the other run comes to the same shard meanwhile."""
        at_work.set()
        time.sleep(0.3)

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(start, run, Scripted(slowly), "a")
        assert at_work.wait(DEADLINE_SECONDS)
        second = pool.submit(start, run, Scripted(slowly), "b")
        found = first.result()[0] + second.result()[0]
    assert found == {"Completed": shards(run), "Cached": shards(run)}
