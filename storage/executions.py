"""The history of executions: a note while one runs, a `stages` row when it has ended."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

from seal_core.errors import StoreError
from seal_core.fingerprint import digest
from seal_core.types import TableRef
from storage.naming import (
    RUNNING_RECORDS,
    check_run,
    is_compact,
    is_content_path,
    running_record,
)
from storage.records import read_record, write_record
from storage.rows import StageRow
from storage.store import Store

KILLED = "killed: the process that worked on it ended before the work did"


def begin_execution(store: Store, run: str, round_index: int, row: StageRow) -> str:
    """Notes that an execution runs; returns the note's path, which `end_execution` takes."""
    path = running_record(run, digest([row.identity, row.started_at, row.host, row.pid]))
    write_record(store.files, path, {"round": round_index, "row": asdict(row)})
    return path


def end_execution(store: Store, run: str, round_index: int, row: StageRow, note: str) -> TableRef:
    """Writes the row of an execution that ended, well or not, and removes its note."""
    ref = store.append_part("stages", [row], run=run, round_index=round_index)
    store.files.delete(note)
    return ref


def settle_killed(store: Store, run: str) -> int:
    """Gives executions that were killed their row; the run's lock must be held.

    Returns:
        How many there were.
    """
    paths = store.files.glob(f"{RUNNING_RECORDS}/{check_run(run)}/*.json")
    for path in paths:
        try:
            noted = read_record(store.files, path)
            row = StageRow(**noted["row"])
        except (StoreError, TypeError, KeyError):
            store.set_aside(path)
            continue
        killed = replace(row, ended_at=None, seconds=None, error=KILLED)
        end_execution(store, run, noted["round"], killed, path)
    return len(paths)


def check_history(store: Store, run: str, note: Callable[[str], None]) -> None:
    """Sets damaged `stages` parts of a run aside; those of good executions are written again.

    Each is named by its content. The result record of a shard holds a copy of its execution,
    see `restore_execution`; of an execution that failed the part is the only copy.
    """
    for path in store.files.glob(f"stages/run={check_run(run)}/round=*/part-*.parquet"):
        if is_compact(path):
            continue  # See `settle_compaction`.
        sha256 = hashlib.sha256(store.files.read(path)).hexdigest()
        if not is_content_path(path, sha256):
            note(f"{path}: the part's digest does not match its name; set aside")
            store.set_aside(path)


def restore_execution(
    store: Store, ref: TableRef, run: str, round_index: int, row: dict[str, Any]
) -> str | None:
    """Writes the row of an execution again if its part is gone; says so."""
    if (problem := store.verify(ref)) is None:
        return None
    written = store.append_part("stages", [StageRow(**row)], run=run, round_index=round_index)
    return f"{problem}; written again" if written == ref else f"{problem}; now {written.path}"
