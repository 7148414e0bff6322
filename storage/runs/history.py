"""The history of executions: a note while one runs, and rows of `stages`, appended by the stage.

A note is rewritten with the whole row when its execution has ended. Appending writes one file of
the rows of all such notes, and then deletes them. What a kill left is appended by the next start.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace

from seal_core.errors import SealError, StoreError
from seal_core.fingerprint import digest
from storage.files.json_records import read_record, write_record
from storage.store import Store
from storage.tables.encoding import Part
from storage.tables.paths import (
    RUNNING_RECORDS,
    check_run,
    is_compact,
    is_content_path,
    running_record,
)
from storage.tables.store_rows import StageRow

STOPPED = "stopped: the run was ended while this was under way"
KILLED = "killed: the process that worked on it ended before the work did"

_LAST_SECONDS = 1.0

Noted = tuple[int, StageRow]
"""The round of an execution, and its row so far."""


def begin_execution(store: Store, run: str, round_index: int, row: StageRow) -> str:
    """Notes that an execution runs; returns the note's path, which `end_execution` takes."""
    path = running_record(run, digest([row.identity, row.started_at, row.host, row.pid]))
    _write(store, path, round_index, row)
    return path


def end_execution(store: Store, round_index: int, row: StageRow, note: str) -> None:
    """Notes how an execution ended, well or not; `append_executions` makes a row of it."""
    _write(store, note, round_index, row)


def append_executions(store: Store, run: str) -> None:
    """Appends the rows of all executions that have ended, one file for each round."""
    ended = {path: noted for path, noted in _notes(store, run) if _has_ended(noted[1])}
    for round_index in sorted({noted[0] for noted in ended.values()}):
        rows = [row for index, row in ended.values() if index == round_index]
        # A kill after an append may have left some of its notes.
        restore_executions(store, run, round_index, rows)
    store.files.delete_many(sorted(ended))


@contextmanager
def appending_executions(store: Store, run: str, last: bool = False) -> Iterator[None]:
    """Appends the executions of the block, also if it ends in an error.

    Args:
        last: Their engines end before the block does, and so they are about to end too.
    """
    try:
        yield
    except BaseException:
        # The error is what matters; what cannot be appended now is by the run's next start.
        with suppress(OSError, SealError):
            deadline = time.monotonic() + (_LAST_SECONDS if last else 0)
            while time.monotonic() < deadline and in_flight(store, run):
                time.sleep(0.05)
            append_executions(store, run)
        raise
    append_executions(store, run)


def recover_executions(store: Store, run: str, note: Callable[[str], None]) -> int:
    """Gives executions that were killed their row, and quarantines damaged history.

    The run's lock must be held. A damaged file of `stages` is named by its content. The records of
    results have the rows of executions that made them, see `restore_executions`; others are lost.

    Returns:
        How many were killed.
    """
    n_killed = 0
    for path, noted in _all_notes(store, run):
        if isinstance(noted, StoreError):
            n_killed += 1
            note(f"{noted}; quarantined")
            store.quarantine(path)
        elif not _has_ended(noted[1]):
            n_killed += 1
            _write(store, path, noted[0], replace(noted[1], seconds=None, error=KILLED))
    for path in store.files.glob(f"stages/run={run}/round=*/part-*.parquet"):
        if not is_compact(path) and (problem := execution_problem(store, path)):
            note(f"{problem}; quarantined")
            store.quarantine(path)
    append_executions(store, run)
    return n_killed


def executions(store: Store, run: str) -> list[Noted]:
    """All executions of a run that have ended, with their rounds, appended or not."""
    appended = store.rows("stages", run)
    known = {_key(row) for _, row in appended}
    noted = [noted for _, noted in _notes(store, run) if _has_ended(noted[1])]
    return appended + [noted for noted in noted if _key(noted[1]) not in known]


def in_flight(store: Store, run: str) -> int:
    """Executions that run now, or were killed and not yet recovered by a resumed run."""
    return sum(not _has_ended(row) for _, (_, row) in _notes(store, run))


def missing_executions(
    store: Store, run: str, round_index: int | None, rows: Iterable[StageRow]
) -> list[StageRow]:
    """Those of these rows that are not in the table."""
    known = {_key(row) for _, row in store.rows("stages", run, round_index)}
    return [row for row in rows if _key(row) not in known]


def restore_executions(
    store: Store, run: str, round_index: int, rows: Sequence[StageRow]
) -> str | None:
    """Appends those rows that the table does not have; says so."""
    if not (lost := missing_executions(store, run, round_index, rows)):
        return None
    # In an order of their own, so that the same rows are the same file.
    lost.sort(key=lambda row: (row.label, row.shard, row.started_at, row.pid))
    path = store.append_part("stages", lost, run=run, round_index=round_index).path
    return f"{path}: {len(lost)} executions were missing in the history; written again"


def execution_problem(store: Store, path: str) -> str | None:
    """None if a file of `stages` is whole, else what is wrong."""
    try:
        found = store.located(path)
    except StoreError as error:
        return str(error)
    if isinstance(found, Part) and not is_content_path(path, found.sha256):
        return f"{path}: the part's digest does not match its name"
    return None


def note_problems(store: Store, run: str) -> list[str]:
    """What is wrong with the notes of executions."""
    return [str(noted) for _, noted in _all_notes(store, run) if isinstance(noted, StoreError)]


def _notes(store: Store, run: str) -> Iterator[tuple[str, Noted]]:
    """Those that are not damaged; of these the run's next start tells."""
    for path, noted in _all_notes(store, run):
        if not isinstance(noted, StoreError):
            yield path, noted


def _all_notes(store: Store, run: str) -> Iterator[tuple[str, Noted | StoreError]]:
    """By path, each note or what is wrong with it."""
    for path in store.files.glob(f"{RUNNING_RECORDS}/{check_run(run)}/*.json"):
        try:
            yield path, _read(store, path)
        except FileNotFoundError:
            continue  # It has just been appended.
        except StoreError as error:
            yield path, error


def _has_ended(row: StageRow) -> bool:
    return row.error is not None or row.ended_at is not None


def _key(row: StageRow) -> tuple[str, str, str, int, str | None]:
    """Not all of a row: a file of an older version may lack columns."""
    return row.identity, row.started_at, row.host, row.pid, row.error


def _write(store: Store, path: str, round_index: int, row: StageRow) -> None:
    write_record(store.files, path, {"round": round_index, "row": asdict(row)})


def _read(store: Store, path: str) -> Noted:
    """Round and row of a note.

    Raises:
        StoreError: it is damaged, or of another kind.
    """
    noted = read_record(store.files, path)
    try:
        return int(noted["round"]), StageRow(**noted["row"])
    except (TypeError, KeyError, ValueError) as error:
        raise StoreError(f"{path}: no execution ({type(error).__name__})") from error
