"""The history of executions: a note while one runs, a `stages` row when it has ended."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from typing import Any

from seal_core.errors import StoreError
from seal_core.fingerprint import digest
from seal_core.types import TableRef
from storage.naming import (
    EXECUTION_RECORDS,
    RUNNING_RECORDS,
    check_run,
    execution_record,
    is_compact,
    is_content_path,
    running_record,
)
from storage.records import read_record, write_record
from storage.rows import StageRow
from storage.store import Store

STOPPED = "stopped: the run was ended while this was under way"
KILLED = "killed: the process that worked on it ended before the work did"


def begin_execution(store: Store, run: str, round_index: int, row: StageRow) -> str:
    """Notes that an execution runs; returns the note's path, which `end_execution` takes."""
    path = _note_path(run, row)
    write_record(store.files, path, {"round": round_index, "row": asdict(row)})
    return path


def end_execution(store: Store, run: str, round_index: int, row: StageRow, note: str) -> TableRef:
    """Writes the row of an execution that ended, well or not, and removes its note.

    One that failed has no result, in whose record the second copy of the row would be.
    """
    # After a kill from here on, the next start writes this very row, and not one of a killed one.
    write_record(store.files, note, {"round": round_index, "row": asdict(row)})
    ref = store.append_part("stages", [row], run=run, round_index=round_index)
    if row.error is not None:
        keep_execution(store, run, round_index, row)
    store.files.delete(note)
    return ref


def keep_execution(store: Store, run: str, round_index: int, row: StageRow) -> None:
    """Writes the second copy of a row that no result record holds."""
    path = execution_record(_note_path(run, row))
    write_record(store.files, path, {"round": round_index, "row": asdict(row)})


def settle_killed(store: Store, run: str) -> int:
    """Gives executions that were killed their row; the run's lock must be held.

    Returns:
        How many there were.
    """
    n_killed = 0
    for path in store.files.glob(f"{RUNNING_RECORDS}/{check_run(run)}/*.json"):
        try:
            round_index, row = _read(store, path)
        except StoreError:
            n_killed += 1
            store.set_aside(path)
            continue
        if row.error is None and row.ended_at is None:
            n_killed += 1
            row = replace(row, seconds=None, error=KILLED)
        # Whether a result record holds its row is not known here.
        keep_execution(store, run, round_index, row)
        end_execution(store, run, round_index, row, path)
    return n_killed


def check_history(store: Store, run: str, note: Callable[[str], None]) -> None:
    """Sets damaged `stages` parts of a run aside; each is written again from its second copy.

    A part is named by its content. The result record of a shard holds a copy of its execution,
    see `restore_execution`; one that failed, or was done again, has a record of its own.
    """
    for path in store.files.glob(f"stages/run={check_run(run)}/round=*/part-*.parquet"):
        if is_compact(path):
            continue  # See `storage.compact_settle`.
        if problem := execution_problem(store, path):
            note(f"{problem}; set aside")
            store.set_aside(path)
    rows: list[StageRow] | None = None
    for path in store.files.glob(f"{EXECUTION_RECORDS}/{run}/*.json"):
        try:
            round_index, row = _read(store, path)
        except StoreError as error:
            store.set_aside(path)
            note(f"{error}; {_copy_again(store, run, path)}")
            continue
        ref = store.append_part("stages", [row], run=run, round_index=round_index, write=False)
        if store.verify(ref) is None:
            continue
        if rows is None:
            rows = [found for _, found in store.rows("stages", run)]
        # Another version of the code wrote it in other bytes, under another name.
        if row not in rows and (
            said := restore_execution(store, ref, run, round_index, asdict(row))
        ):
            note(said)


def execution_problem(store: Store, path: str) -> str | None:
    """None if a `stages` part is whole, else what is wrong."""
    try:
        sha256 = hashlib.sha256(store.files.read(path)).hexdigest()
    except FileNotFoundError:
        found = store.compacts.find(path)
        return store.compacts.problem(found[0]) if found else f"{path}: the part is missing"
    if is_content_path(path, sha256):
        return None
    return f"{path}: the part's digest does not match its name"


def note_problems(store: Store, run: str) -> Iterator[str]:
    """What is wrong with the records of executions, running or kept."""
    for folder in (RUNNING_RECORDS, EXECUTION_RECORDS):
        for path in store.files.glob(f"{folder}/{check_run(run)}/*.json"):
            try:
                _read(store, path)
            except FileNotFoundError:
                continue  # It has just ended.
            except StoreError as error:
                yield str(error)


def _copy_again(store: Store, run: str, path: str) -> str:
    for round_index, row in store.rows("stages", run):
        if execution_record(_note_path(run, row)) == path:
            keep_execution(store, run, round_index, row)
            return "written again"
    return "set aside"


def _note_path(run: str, row: StageRow) -> str:
    return running_record(run, digest([row.identity, row.started_at, row.host, row.pid]))


def _read(store: Store, path: str) -> tuple[int, StageRow]:
    """Round and row of a record.

    Raises:
        StoreError: it is damaged, or of another kind.
    """
    noted = read_record(store.files, path)
    try:
        return int(noted["round"]), StageRow(**noted["row"])
    except (TypeError, KeyError, ValueError) as error:
        raise StoreError(f"{path}: no execution ({type(error).__name__})") from error


def restore_execution(
    store: Store, ref: TableRef, run: str, round_index: int, row: dict[str, Any]
) -> str | None:
    """Writes the row of an execution again if its part is gone; says so."""
    if (problem := store.verify(ref)) is None:
        return None
    written = store.append_part("stages", [StageRow(**row)], run=run, round_index=round_index)
    return f"{problem}; written again" if written == ref else f"{problem}; now {written.path}"
