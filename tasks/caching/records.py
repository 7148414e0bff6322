"""Prefect's cache of shards: which results it may serve, under which lock, and as what.

Prefect's own records say how they are to be decoded: by a pickle, or by JSON whose objects name a
class to call. Both run code when they are read. An error while it writes one is logged only. And it
serves a record without a look at the files that the record points to. So tasks write their records
themselves, and Prefect reads them through `ShardRecords`, which knows a record only if all that it
points to is whole; anything else is a miss.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import prefect
from prefect.filesystems import WritableFileSystem
from prefect.locking.protocol import LockManager
from prefect.serializers import JSONSerializer
from pydantic import PrivateAttr

from seal_core.errors import StageError
from storage.runs.pruning import has_pruned
from storage.tables.paths import result_record
from tasks.caching.cache import CacheEntry, look_up
from tasks.context import RunContext
from tasks.work import Work

PLAIN_JSON = JSONSerializer(object_encoder=None, object_decoder=None)
_LOCK_SECONDS = 1.0


class ShardLock(LockManager):
    """What Prefect locks before it decides on a shard, and so where the shard is looked up.

    A result that is whole needs no lock. Otherwise the lock is that of the shard in the store,
    which the kernel frees with its holder, so that two equal runs do each shard once.

    Args:
        with_weights: Adapters whose weights were removed on purpose are a miss.
        miss: Called before the wait for the lock, which it may not follow: who holds the lock may
            wait for what `miss` waits for.

    Attributes:
        entry: What is known of the shard; as long as the lock is held, nobody changes it.
    """

    def __init__(
        self,
        context: RunContext,
        work: Work,
        *,
        with_weights: bool,
        miss: Callable[[], None],
    ) -> None:
        self._context, self._work, self._with_weights = context, work, with_weights
        self._miss = miss
        self._held = ExitStack()
        self.entry = CacheEntry()

    def acquire_lock(
        self,
        key: str,
        holder: str,
        acquire_timeout: float | None = None,
        hold_timeout: float | None = None,
    ) -> bool:
        """Waits for as long as another run works on the shard, but not beyond this run's end."""
        self.entry = self._look_up()
        self._note(self.entry)
        if self.entry.result is None or self._context.refresh:
            self._miss()
            while not self._try_lock():
                if self._context.stopping.is_set():
                    raise StageError("the run ended while another one worked on this shard")
            try:
                self.entry = self._look_up()
            except BaseException:
                self._held.close()
                raise
        return True

    def release_lock(self, key: str, holder: str) -> None:
        """Frees the lock, if one was needed."""
        self._held.close()

    def is_locked(self, key: str) -> bool:
        """Whether this run holds it; nobody else asks."""
        return True

    def is_lock_holder(self, key: str, holder: str) -> bool:
        """As `is_locked`."""
        return True

    def wait_for_lock(self, key: str, timeout: float | None = None) -> bool:
        """As `is_locked`."""
        return True

    # Tasks are synchronous, so that Prefect has no use for the others; its protocol has them.
    async def aacquire_lock(
        self,
        key: str,
        holder: str,
        acquire_timeout: float | None = None,
        hold_timeout: float | None = None,
    ) -> bool:
        """See `acquire_lock`."""
        return self.acquire_lock(key, holder)

    async def await_for_lock(self, key: str, timeout: float | None = None) -> bool:
        """See `wait_for_lock`."""
        return True

    def _try_lock(self) -> bool:
        lock = self._context.store.try_lock(f"shard-{self._work.key}", _LOCK_SECONDS)
        return self._held.enter_context(lock)

    def _look_up(self) -> CacheEntry:
        store = self._context.store
        entry = look_up(store, self._work, self._context.name)
        refs = entry.result.refs if entry.result is not None and self._with_weights else ()
        return CacheEntry() if any(has_pruned(store, ref) for ref in refs) else entry

    def _note(self, entry: CacheEntry) -> None:
        if entry.damage:
            shard = f"{self._work.label} shard {self._work.shard}"
            self._context.progress.note(f"{shard}: {entry.damage}; rebuilding")


class ShardRecords(WritableFileSystem):
    """Prefect's result storage for one shard; the key is the digest of the shard's identity."""

    _block_type_name = "SEAL shard records"
    _lock: ShardLock = PrivateAttr()

    @classmethod
    def under(cls, lock: ShardLock) -> ShardRecords:
        """The record that was looked up under a lock."""
        block = cls()
        block._lock = lock
        return block

    def _resolve_path(self, path: str) -> None:
        """Prefect asks for a base folder: there is none, a key is a key."""

    # Prefect passes `_sync=True` where it calls from synchronous code, which is everywhere here.
    def read_path(self, path: str, **_: Any) -> bytes:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The record as Prefect wants it; how to decode it is said here, and not in the store.

        Raises:
            FileNotFoundError: there is none, or it is not whole: a miss.
        """
        result = self._lock.entry.result
        if result is None:
            raise FileNotFoundError(result_record(path))
        metadata = {
            "storage_key": path,
            "expiration": None,
            "serializer": PLAIN_JSON.model_dump(),
            "prefect_version": prefect.__version__,
        }
        content = {"metadata": metadata, "result": json.dumps(result.to_json())}
        return json.dumps(content).encode()

    def write_path(self, path: str, content: bytes, **_: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Nothing: the task wrote its record, see `tasks.running.stage`; failures have none."""
