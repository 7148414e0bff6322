"""Where Prefect keeps the results of shards: JSON records in the store, checked bit for bit.

Prefect's own folder of results is neither checked nor atomic, and what it holds may be a pickle,
which runs code when it is read. Here a record is JSON with a digest, or it is refused.
"""

from __future__ import annotations

import json
from typing import Any

from prefect.filesystems import WritableFileSystem
from pydantic import PrivateAttr

from storage.naming import result_record
from storage.records import read_record, write_record
from storage.store import Store
from tasks.results import json_only


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
        """The record as Prefect wrote it.

        Raises:
            FileNotFoundError: there is none.
            StoreError: it is damaged, or not JSON.
        """
        value = read_record(self._store.files, result_record(path))
        plain = {"metadata": json_only(value, path), "result": json.dumps(value["result"])}
        return json.dumps(plain).encode()

    def write_path(self, path: str, content: bytes, **_: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Keeps what Prefect wrote, if it is JSON.

        Raises:
            StoreError: it is not.
        """
        plain = json.loads(content)
        value = {"metadata": json_only(plain, path), "result": json.loads(plain["result"])}
        write_record(self._store.files, result_record(path), value)
