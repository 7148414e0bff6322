"""Makes one file of the parts of a closed round, so that a long history stays quick to ask."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pyarrow as pa

from seal_core.errors import InputError, StoreError
from storage.compact_switch import Piece, pieces_of, settle_compaction, write_pieces
from storage.compacts import Compact, read_compact
from storage.leases import run_lease
from storage.naming import RUNNING_RECORDS, Partition, check_run, is_compact, partition_of
from storage.parts import ROW_GROUP, decode, open_part, sha256_of
from storage.runs import get_run, list_runs
from storage.store import Store
from storage.tables import TABLES

MAX_ROWS = 16 * ROW_GROUP
"""A compact file of so many rows is full: it is held in memory while it is made."""


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
    store: Store, run: str | None = None, note: Callable[[str], None] = lambda message: None
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
    locks.enter_context(store.lock(f"run-{run}", timeout=0, busy=busy))
    locks.enter_context(run_lease(store.files, run))


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


@dataclass(frozen=True)
class _Unit:
    """A part, or a compact file that is not full."""

    path: str
    rows: int
    size: int
    compact: Compact | None = None


def _compact_partition(
    store: Store, partition: Partition, note: Callable[[str], None]
) -> Iterator[CompactedPartition]:
    with store.lock(f"compact-{partition.run}"):
        for group in _groups(_units(store, partition, note)):
            pieces = (piece for unit in group for piece in _pieces(store, unit))
            replaces = [unit.path for unit in group if unit.compact]
            try:
                made, size = write_pieces(store.files, partition, pieces, replaces)
            except StoreError as error:
                note(f"{partition.label} of run {partition.run!r} are left as they are: {error}")
                return
            yield CompactedPartition(
                run=partition.run,
                table=partition.table,
                round_index=partition.round_index,
                path=made.path,
                files=len(group),
                parts=len(made.members),
                rows=sum(member.rows for member in made.members),
                bytes_before=sum(unit.size for unit in group),
                bytes_after=size,
            )


def _units(store: Store, partition: Partition, note: Callable[[str], None]) -> list[_Unit]:
    """What may go into a new file; nothing if all parts are in one already."""
    paths = store.files.glob(f"{partition.folder}/part-*.parquet")
    units = [unit for path in paths if not is_compact(path) and (unit := _part(store, path, note))]
    if not units:
        return []
    for record in store.files.glob(f"{partition.records}/*.json"):
        compact = read_compact(store.files, record)
        rows = sum(member.rows for member in compact.members)
        if rows < MAX_ROWS:
            size = len(store.files.read(compact.path))
            units.append(_Unit(compact.path, rows, size, compact))
    return units


def _part(store: Store, path: str, note: Callable[[str], None]) -> _Unit | None:
    data = store.files.read(path)
    try:
        file = open_part(data)
    except (OSError, pa.ArrowException) as error:
        note(f"{path} is damaged ({error}) and left as it is: resume the run")
        return None
    if not file.schema_arrow.equals(TABLES[partition_of(path).table].schema):
        note(f"{path} has the columns of another version of seal and is left as it is")
        return None
    return _Unit(path, file.metadata.num_rows, len(data))


def _groups(units: list[_Unit]) -> list[list[_Unit]]:
    """Units for each new file: at least two, and no more rows than it takes to be full."""
    groups: list[list[_Unit]] = []
    n = MAX_ROWS
    for unit in sorted(units, key=lambda unit: (unit.compact is None, unit.path)):
        if n >= MAX_ROWS:
            groups.append([])
            n = 0
        groups[-1].append(unit)
        n += unit.rows
    if len(groups) > 1 and len(groups[-1]) == 1:
        groups[-2:] = [groups[-2] + groups[-1]]
    return [group for group in groups if len(group) > 1]


def _pieces(store: Store, unit: _Unit) -> Iterator[Piece]:
    if unit.compact is not None:
        yield from pieces_of(store, unit.compact)
        return
    data = store.files.read(unit.path)
    try:
        rows, metadata = decode(data)
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"{unit.path} is damaged ({error}): resume the run") from error
    yield Piece(unit.path, sha256_of(data), metadata, rows)
