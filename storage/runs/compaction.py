"""Makes one file of the files of a closed round, so that a long history stays quick to ask."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain

from seal_core.errors import Busy, StoreError
from storage.files.base import Files
from storage.runs.history import append_executions, in_flight
from storage.runs.leases import hold_run
from storage.runs.registry import get_run, list_runs
from storage.store import Store
from storage.tables.encoding import ROW_GROUP, Part
from storage.tables.manifest import Compacted, describe
from storage.tables.paths import Partition, is_compact, partition_of
from storage.tables.schema import TABLES

MAX_ROWS = 16 * ROW_GROUP
"""A compacted file of so many rows is full: it is held in memory while it is made."""
_AT_ONCE = 32
Note = Callable[[str], None]


@dataclass(frozen=True)
class CompactedPartition:
    """A compacted file that was made.

    Attributes:
        files: Files, smaller compacted ones among them, that it took the place of.
        parts: Files whose rows it has, as they were written.
        bytes_before, bytes_after: Size on disk.
    """

    run: str
    table: str
    round_index: int
    path: str
    files: int
    parts: int
    rows: int
    bytes_before: int
    bytes_after: int


def compact(
    store: Store, run: str | None = None, note: Note = lambda message: None
) -> list[CompactedPartition]:
    """Compacts the closed rounds of a run, or of every run that is not being executed.

    A round is closed when a later one has begun, or when no execution of the run is under way or
    was killed. Cached results stay valid: refs are checked by the run's manifest.

    Args:
        note: Told of runs that are skipped, and of files that are left as they are.

    Raises:
        InputError: there is no such run, it is being executed, or the store cannot be written.
    """
    names = [get_run(store, run).run] if run is not None else [row.run for row in list_runs(store)]
    done: list[CompactedPartition] = []
    for name in names:
        with ExitStack() as locks:
            try:
                busy = f"run {name!r} is being executed: compact it when it has ended"
                locks.enter_context(hold_run(store, name, busy))
            except Busy as error:
                if run is not None:
                    raise
                note(f"{error}; skipped")
                continue
            recover(store, name, note)
            append_executions(store, name)
            for partition in _closed(store, name):
                done += _compact_partition(store, partition, note)
    return done


def recover(store: Store, run: str, note: Note) -> None:
    """Deletes what no longer counts, and quarantines damaged compacted files.

    The run's lock must be held. What was in a damaged file is made or written again.

    Args:
        note: Told of each damaged file.
    """
    if said := store.manifests.repair(run):
        note(said)
    damaged = []
    for file in store.manifests.get(run).files:
        if problem := store.compacted.problem(file):
            note(f"{problem}; quarantined, its {len(file.members)} parts are made again")
            damaged.append(file)
    if damaged:
        store.manifests.swap(run, lambda old: [f for f in old.files if f not in damaged])
    for file in damaged:
        store.quarantine(file.path)
    _list_again(store, run, note)
    manifest = store.manifests.get(run)
    for path in store.manifests.files_of(run):
        if not manifest.counts(path):
            store.files.delete(path)


def _list_again(store: Store, run: str, note: Note) -> None:
    """Sees to compacted files that are not listed: no row is deleted that is nowhere else.

    That happens with a manifest that is older than its files, from a copy or a backup.
    """
    found: list[tuple[int, Compacted]] = []
    paths = store.manifests.files_of(run)
    listed = store.manifests.get(run).by_path
    for path in filter(is_compact, paths):
        if path not in listed:
            try:
                found.append(describe(path, store.files.read(path)))
            except FileNotFoundError:
                continue
            except StoreError as error:
                note(f"{error}; quarantined, its parts are made again")
                store.quarantine(path)
    for version, file in sorted(found, key=lambda item: (-item[0], item[1].path)):
        members = store.manifests.get(run).by_member.keys()
        if file.places.keys() <= {*paths, *members}:
            continue
        why = f"{file.path}: its rows are nowhere else, and the manifest does not list it"
        if members.isdisjoint(file.places):
            store.manifests.swap(run, lambda old, own=file: (*old.files, own), version)
            note(f"{why}; listed again")
        else:
            store.quarantine(file.path)
            note(f"{why} and has some of them twice; quarantined")


def _closed(store: Store, run: str) -> list[Partition]:
    partitions = sorted({partition_of(path) for path in store.manifests.files_of(run)})
    last = max((partition.round_index for partition in partitions), default=0)
    if not in_flight(store, run):
        return partitions
    # Executions were killed: the run is to go on in its last round, and with the controls.
    return [item for item in partitions if 0 <= item.round_index < last]


def _compact_partition(
    store: Store, partition: Partition, note: Note
) -> Iterator[CompactedPartition]:
    """Fills one file after the other; one file alone stays as it is."""
    for compacted, parts in _groups(store, partition, note):
        if not parts or len(compacted) + len(parts) < 2:
            continue
        try:
            yield _merge(store, partition, compacted, parts)
        except StoreError as error:
            where = f"{partition.table} of round {partition.round_index} of run {partition.run!r}"
            note(f"{where} are left as they are: {error}")


def _groups(
    store: Store, partition: Partition, note: Note
) -> Iterator[tuple[list[Compacted], list[Part]]]:
    """What goes into one new file each: compacted files that are not full, and others."""
    listed = store.manifests.get(partition.run).files
    here = (file for file in listed if partition_of(file.path) == partition)
    compacted = [file for file in here if file.rows < MAX_ROWS]
    rows = sum(file.rows for file in compacted)
    parts: list[Part] = []
    found = store.files.glob(f"{partition.folder}/part-*.parquet")
    paths = [path for path in found if not is_compact(path)]
    for i, part in enumerate(_read_all(store.files, paths), 1):
        try:
            file = part.file
        except StoreError as error:
            note(f"{error}; it is left as it is")
            continue
        if not file.schema_arrow.equals(TABLES[partition.table].schema):
            note(f"{part.path} has the columns of another version of seal and is left as it is")
            continue
        parts.append(part)
        rows += file.metadata.num_rows
        if rows >= MAX_ROWS and len(paths) - i != 1:
            yield compacted, parts
            compacted, rows, parts = [], 0, []
    yield compacted, parts


def _merge(
    store: Store, partition: Partition, compacted: list[Compacted], parts: list[Part]
) -> CompactedPartition:
    """Makes the new file in the place of the others."""
    pieces = chain(
        chain.from_iterable(store.compacted.pieces(file) for file in compacted),
        ((part.member, part.rows()) for part in parts),
    )
    before = sum(len(store.files.read(file.path)) for file in compacted)
    made, size = store.exchange(partition, lambda manifest: (pieces, compacted))
    return CompactedPartition(
        run=partition.run,
        table=partition.table,
        round_index=partition.round_index,
        path=made.path,
        files=len(compacted) + len(parts),
        parts=len(made.members),
        rows=made.rows,
        bytes_before=before + sum(len(part.data) for part in parts),
        bytes_after=size,
    )


def _read_all(files: Files, paths: Sequence[str]) -> Iterator[Part]:
    for start in range(0, len(paths), _AT_ONCE):
        chunk = paths[start : start + _AT_ONCE]
        yield from map(Part, chunk, files.read_many(chunk))
