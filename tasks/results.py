"""Reads what shards' tasks returned from their records in the store; JSON or nothing.

Apart from `tasks.records`, since commands read results before Prefect may be imported: it takes
its settings from the environment at that moment.
"""

from __future__ import annotations

from typing import Any

from seal_core.errors import StoreError
from storage.naming import result_record
from storage.records import read_record
from storage.store import Store


def read_result(store: Store, key: str) -> Any:
    """What a shard's task returned, as plain JSON data.

    Raises:
        FileNotFoundError: there is no record.
        StoreError: it is damaged, or not JSON.
    """
    value = read_record(store.files, result_record(key))
    json_only(value, key)
    return value["result"]


def json_only(record: dict[str, Any], key: str) -> dict[str, Any]:
    """The metadata of a record whose result is JSON.

    Raises:
        StoreError: it is anything else, such as a pickle.
    """
    try:
        kind = record["metadata"]["serializer"]["type"]
    except (KeyError, TypeError) as error:
        raise StoreError(f"{result_record(key)}: no record of a result") from error
    if kind != "json":
        raise StoreError(f"{result_record(key)}: the result is not JSON but {kind}; refused")
    return record["metadata"]
