"""Looks a shard up in Prefect's result records before Prefect does, and checks what it finds.

Prefect serves a cached result without a look at the files it points to. So each record is read
here first, as plain JSON, and every ref in it is verified: existence, digest, row count. Only
then is Prefect allowed to serve it; otherwise the shard is run again with `refresh_cache`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from seal_core.errors import StoreError
from storage.store import Store
from tasks.work import ShardResult


@dataclass(frozen=True)
class CacheEntry:
    """State of one key: a usable `result`, or `damage` that says why there is none, or neither."""

    result: ShardResult | None = None
    damage: str | None = None


def look_up(store: Store, key: str) -> CacheEntry:
    """Reads and verifies the record of `key`."""
    path = store.result_root / key
    if not path.exists():
        return CacheEntry()
    try:
        record = json.loads(path.read_bytes())
        serializer = record["metadata"]["serializer"]["type"]
        if serializer != "json":
            return CacheEntry(damage=f"record {key[:12]} is not JSON but {serializer}")
        result = ShardResult.from_json(json.loads(record["result"]))
        for ref in result.refs:
            if problem := store.verify(ref):
                return CacheEntry(damage=problem)
    except (ValueError, KeyError, TypeError, StoreError) as error:
        return CacheEntry(damage=f"record {key[:12]} is unreadable ({error})")
    return CacheEntry(result=result)


def forget(store: Store, key: str) -> None:
    """Removes a record, so that its shard runs again the next time."""
    (store.result_root / key).unlink(missing_ok=True)
