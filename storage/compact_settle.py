"""Finishes or undoes interrupted compactions of a run, and finds damaged compact files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seal_core.errors import StoreError
from storage.announcements import announcements, withdraw
from storage.compact_switch import Note, finish, set_aside
from storage.compacts import path_of, read_compact, record_of
from storage.naming import COMPACT_RECORDS, announced, is_compact
from storage.tables import TABLES

if TYPE_CHECKING:
    from storage.store import Store


def settle_compaction(store: Store, run: str, note: Note) -> None:
    """Finishes or undoes what a kill interrupted, and sets damaged compact files aside.

    The run's lock must be held. The shards whose parts were in a damaged file run again.

    Args:
        note: Told of each damaged file.
    """
    with store.lock(f"compact-{run}"):
        for path in announcements(store.files, run):
            _settle(store, path, note)
        for record in store.files.glob(f"{COMPACT_RECORDS}/{run}/*/*/*.json"):
            _check(store, record, note)
        records = set(store.files.glob(f"{COMPACT_RECORDS}/{run}/*/*/*.json"))
        for table in TABLES:
            for path in store.files.glob(f"{table}/run={run}/round=*/part-compact-*.parquet"):
                if is_compact(path) and record_of(path) not in records:
                    note(f"{path}: the compact file has no record; set aside, its shards run again")
                    store.set_aside(path)


def _settle(store: Store, announcement: str, note: Note) -> None:
    what = announced(announcement)
    if what is None:
        return
    partition, name = what
    record = f"{partition.records}/{name}.json"
    try:
        compact = read_compact(store.files, record)
    except FileNotFoundError:
        withdraw(store.files, announcement)
        return
    except StoreError as error:
        note(f"{error}; set aside with its compact file, whose shards run again")
        set_aside(store, record, partition.compact_path(name))
        withdraw(store.files, announcement)
        return
    if store.files.exists(compact.path) and store.compacts.problem(compact) is None:
        finish(store.files, compact)
        return
    # The parts are still there: they are deleted only when the compact file is whole.
    if store.files.exists(compact.path):
        store.set_aside(compact.path)
    if compact.incoming:
        store.files.delete(compact.incoming)
    store.files.delete(record)
    withdraw(store.files, announcement)


def _check(store: Store, record: str, note: Note) -> None:
    try:
        compact = read_compact(store.files, record)
    except StoreError as error:
        note(f"{error}; set aside with its compact file, whose shards run again")
        set_aside(store, record, path_of(record))
        return
    if problem := store.compacts.problem(compact):
        note(f"{problem}; set aside, its {len(compact.members)} shards run again")
        set_aside(store, record, compact.path)
