"""Makes one file of the parts of a closed round, so that a long history stays quick to ask."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from seal_core.errors import InputError, StoreError
from storage.compact_build import Piece
from storage.compact_settle import settle_compaction
from storage.compact_switch import Note, pieces_of, write_pieces
from storage.compacts import Compact, read_compact
from storage.files import Files, in_objects
from storage.leases import hold_run
from storage.naming import RUNNING_RECORDS, Partition, check_run, is_compact, partition_of
from storage.parts import ROW_GROUP, decode, open_part, sha256_of
from storage.runs import get_run, list_runs
from storage.store import Store
from storage.tables import TABLES

MAX_ROWS = 16 * ROW_GROUP
"""A compact file of so many rows is full: it is held in memory while it is made."""
_AT_ONCE = 32


@dataclass(frozen=True)
class CompactedPartition:
    """A compact file that was made.

    Attributes:
        files: Parts, and smaller compact files, that it took the place of.
        parts: Parts whose rows it has.
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
    was killed. Cached results stay valid: see `storage.compact_reader`.

    Args:
        note: Told of runs that are skipped, and of parts that are left as they are.

    Raises:
        InputError: there is no such run, or it is being executed.
    """
    names = [get_run(store, run).run] if run is not None else [row.run for row in list_runs(store)]
    done = []
    for name in names:
        with ExitStack() as locks:
            try:
                _lock(store, name, locks)
            except InputError as error:
                if run is not None:
                    raise
                note(f"{error}; skipped")
                continue
            settle_compaction(store, name, note)
            for partition in _closed(store, name):
                done += _compact_partition(store, partition, note)
    return done


def _lock(store: Store, run: str, locks: ExitStack) -> None:
    busy = f"run {run!r} is being executed: compact it when it has ended"
    locks.enter_context(hold_run(store, run, busy))


def _closed(store: Store, run: str) -> list[Partition]:
    paths = (
        path
        for table in TABLES
        for path in store.files.glob(f"{table}/run={check_run(run)}/round=*/part-*.parquet")
    )
    partitions = sorted({partition_of(path) for path in paths})
    last = max((partition.round_index for partition in partitions), default=0)
    if not store.files.glob(f"{RUNNING_RECORDS}/{run}/*.json"):
        return partitions
    # Executions were killed: the run is to go on in its last round, and with the controls.
    return [item for item in partitions if 0 <= item.round_index < last]


def _compact_partition(
    store: Store, partition: Partition, note: Note
) -> Iterator[CompactedPartition]:
    """Fills one file after the other; one part alone stays as it is."""
    paths = store.files.glob(f"{partition.folder}/part-*.parquet")
    parts = [path for path in paths if not is_compact(path)]
    if not parts:
        return
    with store.lock(f"compact-{partition.run}"):
        group = _Group.of(_not_full(store, partition))
        for i, (path, data) in enumerate(_read_all(store.files, parts), 1):
            if problem := _unfit(partition, path, data):
                note(problem)
                continue
            group.add(path, data)
            if group.rows >= MAX_ROWS and len(parts) - i != 1:
                yield from _flush(store, partition, group, note)
                group = _Group.of([])
        yield from _flush(store, partition, group, note)


@dataclass
class _Group:
    """What goes into one new file: compact files that are not full, and parts."""

    compacts: list[Compact]
    parts: list[tuple[str, bytes]]
    rows: int

    @classmethod
    def of(cls, compacts: list[Compact]) -> _Group:
        """Without parts so far."""
        return cls(compacts, [], sum(compact.rows for compact in compacts))

    def add(self, path: str, data: bytes) -> None:
        """Takes a part."""
        self.parts.append((path, data))
        self.rows += open_part(data, path).metadata.num_rows


def _not_full(store: Store, partition: Partition) -> list[Compact]:
    records = store.files.glob(f"{partition.records}/*.json")
    found = [read_compact(store.files, record) for record in records]
    return [item for item in found if item.rows < MAX_ROWS]


def _read_all(files: Files, paths: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    for start in range(0, len(paths), _AT_ONCE):
        chunk = paths[start : start + _AT_ONCE]
        found = files.read_many(chunk) if in_objects(files) else map(files.read, chunk)
        yield from zip(chunk, found, strict=True)


def _unfit(partition: Partition, path: str, data: bytes) -> str | None:
    try:
        file = open_part(data, path)
    except StoreError as error:
        return f"{error}; it is left as it is"
    if not file.schema_arrow.equals(TABLES[partition.table].schema):
        return f"{path} has the columns of another version of seal and is left as it is"
    return None


def _flush(
    store: Store, partition: Partition, group: _Group, note: Note
) -> Iterator[CompactedPartition]:
    n_files = len(group.compacts) + len(group.parts)
    if not group.parts or n_files < 2:
        return
    before = sum(len(store.files.read(compact.path)) for compact in group.compacts)
    before += sum(len(data) for _, data in group.parts)
    replaces = [compact.path for compact in group.compacts]
    try:
        made, size = write_pieces(store.files, partition, _pieces(store, group), replaces)
    except StoreError as error:
        note(f"{partition.label} of run {partition.run!r} are left as they are: {error}")
        return
    yield CompactedPartition(
        run=partition.run,
        table=partition.table,
        round_index=partition.round_index,
        path=made.path,
        files=n_files,
        parts=len(made.members),
        rows=made.rows,
        bytes_before=before,
        bytes_after=size,
    )


def _pieces(store: Store, group: _Group) -> Iterator[Piece]:
    for compact in group.compacts:
        yield from pieces_of(store, compact)
    for path, data in group.parts:
        rows, metadata = decode(data, path)
        yield Piece(path, sha256_of(data), metadata, rows)
