"""Results of shards in the store: plain JSON records, or nothing.

Apart from `tasks.caching.records`, since commands read results before Prefect may be imported: it
takes its settings from the environment at that moment.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from seal_core.errors import StoreError
from storage.files.json_records import read_record, write_record
from storage.store import Store
from storage.tables.paths import result_record


class RefusedResult(StoreError):
    """The result is whole, but too many units in it failed for this run."""


def write_result(store: Store, key: str, result: dict[str, Any]) -> None:
    """Keeps what a shard's task returns; `result` must be plain JSON data.

    What was there before stays behind it: runs that hold its rows go on with them, should the new
    ones have come out otherwise.
    """
    try:
        before = _read(store, key)
    except (FileNotFoundError, StoreError):
        before = {"results": []}
    others = [other for other in before["results"] if other.get("refs") != result["refs"]]
    write_record(store.files, result_record(key), {"results": [result, *others]})


def refuse_result(store: Store, key: str, run: str) -> None:
    """Has a run execute a shard again the next time; for other runs the result is as good as ever.

    Nothing to do if somebody is just making it anew, or if the record is damaged.
    """
    with store.try_lock(f"shard-{key}", 0) as free, suppress(FileNotFoundError, StoreError):
        if free:
            value = _read(store, key)
            refused = sorted({*value.get("refused", []), run})
            write_record(store.files, result_record(key), {**value, "refused": refused})


def has_result(store: Store, key: str, run: str) -> bool:
    """Whether there is a whole record that a run has not refused."""
    try:
        read_result(store, key, run)
    except (FileNotFoundError, StoreError):
        return False
    return True


def read_results(store: Store, key: str, run: str | None = None) -> list[dict[str, Any]]:
    """What a shard's task returned, as plain JSON data, the latest first: at least one.

    There are several if a run made it again, and with other bits.

    Args:
        run: Who wants to use one; None to look at them only.

    Raises:
        FileNotFoundError: there is no record.
        RefusedResult: the run has refused it.
        StoreError: it is damaged, or of another kind, such as one that names a serializer.
    """
    value = _read(store, key)
    if run in value.get("refused", []):
        raise RefusedResult(f"{result_record(key)}: too many units of this shard failed")
    return value["results"]


def read_result(store: Store, key: str, run: str | None = None) -> dict[str, Any]:
    """The latest of `read_results`."""
    return read_results(store, key, run)[0]


def _read(store: Store, key: str) -> dict[str, Any]:
    path = result_record(key)
    value = read_record(store.files, path)
    if not isinstance(value, dict) or set(value) - {"refused"} != {"results"}:
        raise StoreError(f"{path}: no record of a shard's result; refused")
    found = value["results"]
    if not (isinstance(found, list) and found and all(isinstance(own, dict) for own in found)):
        raise StoreError(f"{path}: the result is no JSON object; refused")
    return value
