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

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pyarrow as pa

from seal_core.types import TableRef
from storage.announcements import announce, conclude
from storage.compact_build import Piece, build
from storage.compacts import Compact, record_of, write_compact
from storage.files import Files, fsync_folder, in_folder
from storage.naming import Partition, partition_of

if TYPE_CHECKING:
    from storage.store import Store

_AT_ONCE = 16
Note = Callable[[str], None]


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
    compact, data = build(partition, pieces, tuple(replaces), incoming[0] if incoming else None)
    announce(files, compact)
    write_compact(files, compact)
    if incoming:
        files.write(*incoming)
    files.write(compact.path, data)
    finish(files, compact)
    return compact, len(data)


def replace_member(store: Store, path: str, data: bytes) -> None:
    """Writes a part into a slot whose former rows are in a compact file.

    The compact file is written anew without them. If it is damaged, it is set aside.
    """
    with store.lock(f"compact-{partition_of(path).run}"):
        old = _whole(store, path)
        if old is None:
            store.files.write(path, data)
        else:
            rest = _without(store, old, path)
            write_pieces(store.files, old.partition, rest, [old.path], (path, data))


def place_member(store: Store, ref: TableRef, metadata: dict[str, str], rows: pa.Table) -> None:
    """Puts a part into a slot as a compact file of its own, under which its ref stays valid."""
    partition = partition_of(ref.path)
    with store.lock(f"compact-{partition.run}"):
        if old := _whole(store, ref.path):
            write_pieces(store.files, partition, _without(store, old, ref.path), [old.path])
        write_pieces(store.files, partition, [Piece(ref.path, ref.sha256, metadata, rows)])


def _whole(store: Store, path: str) -> Compact | None:
    """The compact file that holds a part; a damaged one is set aside."""
    found = store.compacts.find(path)
    if found is None:
        return None
    if store.compacts.problem(found[0]) is None:
        return found[0]
    set_aside(store, found[0].record, found[0].path)
    return None


def _without(store: Store, compact: Compact, path: str) -> Iterator[Piece]:
    return (piece for piece in pieces_of(store, compact) if piece.path != path)


def pieces_of(store: Store, compact: Compact) -> Iterator[Piece]:
    """The members of a compact file with their rows.

    Raises:
        StoreError: the file is missing or damaged.
    """
    rows = store.compacts.all_rows(compact)
    for member, table in zip(compact.members, rows, strict=True):
        yield Piece(member.path, member.sha256, member.metadata, table)


def set_aside(store: Store, *paths: str) -> None:
    """Moves damaged files away, those that are there."""
    for path in paths:
        if store.files.exists(path):
            store.set_aside(path)


def finish(files: Files, compact: Compact) -> None:
    """Deletes what a compact file has taken the place of."""
    _delete_all(files, sorted(compact.replaced))
    _delete_all(files, [record_of(path) for path in compact.replaces])
    if in_folder(files):
        # The announcement must not be gone before what it tells of, whatever the power does.
        fsync_folder(files.local(compact.partition.folder))
    conclude(files, compact)


def _delete_all(files: Files, paths: list[str]) -> None:
    if in_folder(files):
        for path in paths:
            files.delete(path)
        return
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(files.delete, paths))
