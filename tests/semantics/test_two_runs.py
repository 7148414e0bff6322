"""Two runs with equal stages, the second started while the first is at work, in one store.

Each shard is executed once, by whichever run comes first; both have all rows.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import tasks.caching.cache
import tasks.caching.records
from storage.store import Store
from tasks.caching.cache import CacheEntry
from tasks.work import Work
from tests.semantics.conftest import Runner
from tests.semantics.runs import ask
from tests.semantics.scripted import Scripted
from tests.waiting import HUNG


def test_each_shard_is_executed_once(
    inputs: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_work, both_at_it = threading.Event(), threading.Event()
    asked: dict[str, dict[str, list[bool]]] = {"a": {}, "b": {}}

    def look_up(opened: Store, work: Work, run: str) -> CacheEntry:
        entry = tasks.caching.cache.look_up(opened, work, run)
        asked[run].setdefault(work.key, []).append(entry.result is not None)
        if run == "b" and entry.result is None and work.key in asked["a"]:
            both_at_it.set()
        return entry

    def slowly(_: str, __: Sequence[Any]) -> None:
        """So long that the other run comes to the same shard, which is the only one so far."""
        at_work.set()
        assert both_at_it.wait(HUNG)

    monkeypatch.setattr(tasks.caching.records, "look_up", look_up)
    engines = Scripted(slowly), Scripted()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(Runner(inputs, store), engines[0], "a")
        assert at_work.wait(HUNG)  # The Prefect server is up as well: two would be started at once.
        second = pool.submit(Runner(inputs, store), engines[1], "b")
        first.result()
        second.result()
    assert ask(store, "SELECT label FROM stages GROUP BY identity, label HAVING count(*) > 1") == []
    assert not set(engines[0].generated) & set(engines[1].generated)
    # The second has caught up with the first: it came to work under way, and then found it done.
    assert [False, True] in asked["b"].values()
    for table in ("self_edits", "adapters", "answers", "scores", "selections", "policies"):
        columns = f"SELECT * EXCLUDE run FROM {table} WHERE run"
        assert ask(store, f"{columns} = 'a' EXCEPT ALL {columns} = 'b'") == []
        assert ask(store, f"{columns} = 'b' EXCEPT ALL {columns} = 'a'") == []
