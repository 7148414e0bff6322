"""Results of shards in the store: plain JSON records, or nothing.

Apart from `tasks.records`, since commands read results before Prefect may be imported: it takes
its settings from the environment at that moment.
"""

from __future__ import annotations

from typing import Any

from seal_core.errors import StoreError
from storage.files.json_records import read_record, write_record
from storage.store import Store
from storage.tables.paths import result_record

_FORGOTTEN = {"forgotten": True}


class ForgottenResult(StoreError):
    """The result is not to be used, though it is whole."""


def write_result(store: Store, key: str, result: dict[str, Any]) -> None:
    """Keeps what a shard's task returns; `result` must be plain JSON data."""
    write_record(store.files, result_record(key), {"result": result})


def forget_result(store: Store, key: str) -> None:
    """Has a shard run again the next time; a mark stays, since nothing is lost or damaged."""
    write_record(store.files, result_record(key), _FORGOTTEN)


def has_result(store: Store, key: str) -> bool:
    """Whether there is a whole record."""
    try:
        read_result(store, key)
    except (FileNotFoundError, StoreError):
        return False
    return True


def read_result(store: Store, key: str) -> dict[str, Any]:
    """What a shard's task returned, as plain JSON data.

    Raises:
        FileNotFoundError: there is no record.
        ForgottenResult: it was forgotten.
        StoreError: it is damaged, or of another kind, such as one that names a serializer.
    """
    path = result_record(key)
    value = read_record(store.files, path)
    if value == _FORGOTTEN:
        raise ForgottenResult(f"{path}: too many units of this shard failed")
    if not isinstance(value, dict) or set(value) != {"result"}:
        raise StoreError(f"{path}: no record of a shard's result; refused")
    if not isinstance(value["result"], dict):
        raise StoreError(f"{path}: the result is no JSON object; refused")
    return value["result"]
