"""The lock of a shard is free again when Prefect does not get it."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

import tasks.caching.records
from seal_core.errors import StoreConnectionError
from storage.store import Store
from tasks.caching.cache import CacheEntry
from tasks.caching.records import ShardLock


def test_a_lock_is_freed_if_the_second_look_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.open(str(tmp_path / "store"))
    context = SimpleNamespace(store=store, name="a", refresh=False, stopping=threading.Event())
    work = SimpleNamespace(key="0" * 64, label="sample", shard=0)
    looks = iter([CacheEntry()])

    def look_up(*_: object) -> CacheEntry:
        if found := next(looks, None):
            return found
        raise StoreConnectionError("out of reach")

    monkeypatch.setattr(tasks.caching.records, "look_up", look_up)
    lock = ShardLock(cast(Any, context), cast(Any, work), with_weights=False, miss=lambda: None)
    with pytest.raises(StoreConnectionError):
        lock.acquire_lock("", "")
    with store.try_lock(f"shard-{work.key}", 0) as free:
        assert free
