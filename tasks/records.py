"""Lets Prefect find the results of shards in the store, as plain JSON and nothing else.

Prefect's own records say how they are to be decoded: by a pickle, or by JSON whose objects name a
class to call. Both run code when they are read. And an error while it writes one is logged only.
So tasks write their records themselves, and Prefect reads them through this block.
"""

from __future__ import annotations

import json
from typing import Any

import prefect
from prefect.filesystems import WritableFileSystem
from prefect.serializers import JSONSerializer
from pydantic import PrivateAttr

from storage.store import Store
from tasks.results import read_result

PLAIN_JSON = JSONSerializer(object_encoder=None, object_decoder=None)


class ShardRecords(WritableFileSystem):
    """Prefect's result storage over a store; a key is the digest of a shard's identity."""

    _block_type_name = "SEAL shard records"
    _store: Store = PrivateAttr()

    @classmethod
    def of(cls, store: Store) -> ShardRecords:
        """The records of a store."""
        block = cls()
        block._store = store
        return block

    def _resolve_path(self, path: str) -> None:
        """Prefect asks for a base folder: there is none, a key is a key."""

    # Prefect passes `_sync=True` where it calls from synchronous code, which is everywhere here.
    def read_path(self, path: str, **_: Any) -> bytes:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The record as Prefect wants it; how to decode it is said here, and not in the store.

        Raises:
            FileNotFoundError: there is none.
            StoreError: it is damaged, or not a shard's.
        """
        result = read_result(self._store, path)
        metadata = {
            "storage_key": path,
            "expiration": None,
            "serializer": PLAIN_JSON.model_dump(),
            "prefect_version": prefect.__version__,
        }
        return json.dumps({"metadata": metadata, "result": json.dumps(result)}).encode()

    def write_path(self, path: str, content: bytes, **_: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Nothing: the task has written its record, see `tasks.stage`; failures have none."""
