"""Puts compact files in the place of parts, so that a kill at any moment loses and doubles nothing.

1. The compact file is announced in `_compacting`.
2. Its record is written, and the part that comes into sight with it, if there is one.
3. The compact file is written. From here on readers leave out what it replaces.
4. What it replaces is deleted.
5. The announcement is taken back.

What was killed before 3 is undone, what was killed after it is finished. Files are written whole
and deleted, never renamed, so this holds in object storage too.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from seal_core.errors import StoreError
from seal_core.fingerprint import digest
from seal_core.types import TableRef
from storage.compacts import (
    Compact,
    Member,
    announce,
    announcements,
    conclude,
    read_compact,
    withdraw,
    write_compact,
)
from storage.files import Files, fsync_folder, in_folder
from storage.naming import COMPACT_RECORDS, Partition, announced, is_compact, partition_of
from storage.parts import COMPRESSION, ROW_GROUP, sha256_of
from storage.tables import TABLES

if TYPE_CHECKING:
    from storage.store import Store

Note = Callable[[str], None]


@dataclass(frozen=True)
class Piece:
    """A part on its way into a compact file."""

    path: str
    sha256: str
    metadata: dict[str, str]
    rows: pa.Table


def write_pieces(
    files: Files,
    partition: Partition,
    pieces: Iterable[Piece],
    replaces: Iterable[str] = (),
    incoming: tuple[str, bytes] | None = None,
) -> tuple[Compact, int]:
    """Puts one compact file in the place of its pieces; the run's locks must be held.

    Args:
        pieces: In the order in which the file is to have them.
        replaces: Compact files whose members they are.
        incoming: Path and bytes of a part that takes the place of a member left out.

    Returns:
        The compact file, and its size in bytes.
    """
    compact, data = _build(partition, pieces, tuple(replaces), incoming[0] if incoming else None)
    announce(files, compact)
    write_compact(files, compact)
    if incoming:
        files.write(*incoming)
    files.write(compact.path, data)
    _finish(files, compact)
    return compact, len(data)


def replace_member(store: Store, path: str, data: bytes) -> None:
    """Writes a part into a slot whose former rows are in a compact file.

    The compact file is written anew without them. If it is damaged, it is set aside.
    """
    with store.lock(f"compact-{partition_of(path).run}"):
        found = store.compacts.find(path)
        if found is None:
            store.files.write(path, data)
            return
        compact, _ = found
        if store.compacts.problem(compact):
            _set_aside(store, compact.record, compact.path)
            store.files.write(path, data)
            return
        rest = (piece for piece in pieces_of(store, compact) if piece.path != path)
        write_pieces(store.files, compact.partition, rest, [compact.path], (path, data))


def place_member(store: Store, ref: TableRef, metadata: dict[str, str], rows: pa.Table) -> None:
    """Puts a part into a slot as a compact file of its own, under which its ref stays valid."""
    partition = partition_of(ref.path)
    with store.lock(f"compact-{partition.run}"):
        found = store.compacts.find(ref.path)
        if found is not None and store.compacts.problem(found[0]) is None:
            rest = (piece for piece in pieces_of(store, found[0]) if piece.path != ref.path)
            write_pieces(store.files, partition, rest, [found[0].path])
        piece = Piece(ref.path, ref.sha256, metadata, rows)
        write_pieces(store.files, partition, [piece])


def pieces_of(store: Store, compact: Compact) -> Iterator[Piece]:
    """The members of a compact file with their rows.

    Raises:
        StoreError: the file is missing or damaged.
    """
    rows = store.compacts.all_rows(compact)
    for member, table in zip(compact.members, rows, strict=True):
        yield Piece(member.path, member.sha256, member.metadata, table)


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
                if is_compact(path) and _record_of(path) not in records:
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
        _set_aside(store, record, partition.compact_path(name))
        withdraw(store.files, announcement)
        return
    if store.files.exists(compact.path) and store.compacts.problem(compact) is None:
        _finish(store.files, compact)
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
        _set_aside(store, record, _path_of(record))
        return
    if problem := store.compacts.problem(compact):
        note(f"{problem}; set aside, its {len(compact.members)} shards run again")
        _set_aside(store, record, compact.path)


def _set_aside(store: Store, *paths: str) -> None:
    for path in paths:
        if store.files.exists(path):
            store.set_aside(path)


def _finish(files: Files, compact: Compact) -> None:
    for path in sorted(compact.replaced):
        files.delete(path)
    for path in compact.replaces:
        files.delete(_record_of(path))
    if in_folder(files):
        # The announcement must not be gone before what it tells of, whatever the power does.
        fsync_folder(files.local(compact.partition.folder))
    conclude(files, compact)


def _record_of(path: str) -> str:
    name = path.removesuffix(".parquet").rpartition("-")[2]
    return f"{partition_of(path).records}/{name}.json"


def _path_of(record: str) -> str:
    run, table, index, name = record.removeprefix(f"{COMPACT_RECORDS}/").split("/")
    return Partition(table, run, int(index)).compact_path(name.removesuffix(".json"))


def _build(
    partition: Partition,
    pieces: Iterable[Piece],
    replaces: tuple[str, ...],
    incoming: str | None,
) -> tuple[Compact, bytes]:
    members: list[Member] = []
    sink = io.BytesIO()
    schema = TABLES[partition.table].schema
    with pq.ParquetWriter(sink, schema, compression=COMPRESSION) as writer:
        first = 0
        waiting: list[pa.Table] = []
        for piece in pieces:
            n = piece.rows.num_rows
            members.append(Member(piece.path, piece.sha256, first, n, piece.metadata))
            first += n
            waiting.append(piece.rows)
            waiting = _write_groups(writer, waiting, ROW_GROUP)
        _write_groups(writer, waiting, 1)
        names = digest([[member.path, member.sha256] for member in members])
        # So that no two sets of parts are one file, even if both have no rows.
        writer.add_key_value_metadata({"seal.table": partition.table, "seal.members": names})
    data = sink.getvalue()
    return Compact(partition, sha256_of(data), tuple(members), replaces, incoming), data


def _write_groups(writer: pq.ParquetWriter, waiting: list[pa.Table], at_least: int) -> list:
    """Writes whole row groups, or what there is; returns what is left."""
    n = sum(table.num_rows for table in waiting)
    if n < at_least:
        return waiting
    rows = pa.concat_tables(waiting).combine_chunks()
    end = n if at_least == 1 else n - n % ROW_GROUP
    writer.write_table(rows.slice(0, end), row_group_size=ROW_GROUP)
    return [rows.slice(end)] if end < n else []
