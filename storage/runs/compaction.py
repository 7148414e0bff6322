"""Makes one file of the files of a closed round, so that a long history stays quick to ask."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from seal_core.errors import InputError, StoreError
from storage.files.base import Files
from storage.runs.history import append_executions, in_flight
from storage.runs.leases import hold_run
from storage.runs.registry import get_run, list_runs
from storage.store import Store
from storage.tables.compacted import Piece
from storage.tables.encoding import ROW_GROUP, decode, open_part, sha256_of
from storage.tables.manifest import Compacted, Manifest, describe
from storage.tables.paths import Partition, check_run, is_compact, partition_of
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
        InputError: there is no such run, or it is being executed.
    """
    names = [get_run(store, run).run] if run is not None else [row.run for row in list_runs(store)]
    done: list[CompactedPartition] = []
    for name in names:
        with ExitStack() as locks:
            try:
                busy = f"run {name!r} is being executed: compact it when it has ended"
                locks.enter_context(hold_run(store, name, busy))
            except InputError as error:
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
    damaged = [file for file in store.manifests.get(run).files if _is_damaged(store, file, note)]
    if damaged:
        store.manifests.swap(run, lambda old: [f for f in old.files if f not in damaged])
    for file in damaged:
        store.quarantine(file.path)
    manifest = store.manifests.get(run)
    for path in _files_of(store, run):
        if manifest.counts(path):
            continue
        if is_compact(path) and (problem := _unreadable(store.files, path)):
            note(f"{problem}; quarantined, its parts are made again")
            store.quarantine(path)
        store.files.delete(path)


def _is_damaged(store: Store, file: Compacted, note: Note) -> bool:
    if problem := store.compacted.problem(file):
        note(f"{problem}; quarantined, its {len(file.members)} parts are made again")
    return problem is not None


def _unreadable(files: Files, path: str) -> str | None:
    try:
        describe(path, files.read(path))
    except StoreError as error:
        return str(error)
    return None


def _files_of(store: Store, run: str) -> list[str]:
    patterns = (f"{table}/run={check_run(run)}/round=*/part-*.parquet" for table in TABLES)
    return [path for pattern in patterns for path in store.files.glob(pattern)]


def _closed(store: Store, run: str) -> list[Partition]:
    partitions = sorted({partition_of(path) for path in _files_of(store, run)})
    last = max((partition.round_index for partition in partitions), default=0)
    if not in_flight(store, run):
        return partitions
    # Executions were killed: the run is to go on in its last round, and with the controls.
    return [item for item in partitions if 0 <= item.round_index < last]


def _compact_partition(
    store: Store, partition: Partition, note: Note
) -> Iterator[CompactedPartition]:
    """Fills one file after the other; one file alone stays as it is."""
    paths = store.files.glob(f"{partition.folder}/part-*.parquet")
    parts = [path for path in paths if not is_compact(path)]
    group = _Group(store, partition, _not_full(store, partition))
    for i, (path, data) in enumerate(_read_all(store.files, parts), 1):
        if problem := _unfit(partition, path, data):
            note(problem)
            continue
        group.add(path, data)
        if group.rows >= MAX_ROWS and len(parts) - i != 1:
            yield from group.flush(note)
            group = _Group(store, partition, [])
    yield from group.flush(note)


class _Group:
    """What goes into one new file: compacted files that are not full, and others."""

    def __init__(self, store: Store, partition: Partition, compacted: list[Compacted]) -> None:
        self._store, self._partition, self._compacted = store, partition, compacted
        self._parts: list[tuple[str, bytes]] = []
        self.rows = sum(file.rows for file in compacted)

    def add(self, path: str, data: bytes) -> None:
        """Takes a file."""
        self._parts.append((path, data))
        self.rows += open_part(data, path).metadata.num_rows

    def flush(self, note: Note) -> Iterator[CompactedPartition]:
        """Makes the new file, if it would take the place of two at least."""
        files = len(self._compacted) + len(self._parts)
        if not self._parts or files < 2:
            return
        where, store = self._partition, self._store
        before = sum(len(store.files.read(file.path)) for file in self._compacted)
        before += sum(len(data) for _, data in self._parts)
        try:
            made, size = store.exchange(where, self._choose)
        except StoreError as error:
            note(f"{where.label} of run {where.run!r} are left as they are: {error}")
            return
        yield CompactedPartition(
            run=where.run,
            table=where.table,
            round_index=where.round_index,
            path=made.path,
            files=files,
            parts=len(made.members),
            rows=made.rows,
            bytes_before=before,
            bytes_after=size,
        )

    def _choose(self, manifest: Manifest) -> tuple[Iterable[Piece], Sequence[Compacted]]:
        return self._pieces(), self._compacted

    def _pieces(self) -> Iterator[Piece]:
        for file in self._compacted:
            yield from self._store.compacted.pieces(file)
        for path, data in self._parts:
            rows, metadata = decode(data, path)
            yield Piece(path, sha256_of(data), metadata, rows)


def _not_full(store: Store, partition: Partition) -> list[Compacted]:
    files = store.manifests.get(partition.run).files
    return [f for f in files if partition_of(f.path) == partition and f.rows < MAX_ROWS]


def _read_all(files: Files, paths: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    for start in range(0, len(paths), _AT_ONCE):
        chunk = paths[start : start + _AT_ONCE]
        yield from zip(chunk, files.read_many(chunk), strict=True)


def _unfit(partition: Partition, path: str, data: bytes) -> str | None:
    try:
        file = open_part(data, path)
    except StoreError as error:
        return f"{error}; it is left as it is"
    if not file.schema_arrow.equals(TABLES[partition.table].schema):
        return f"{path} has the columns of another version of seal and is left as it is"
    return None
