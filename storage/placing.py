"""Writes, checks and finds parts, be they files of their own or in a compact file."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from seal_core.errors import StoreError
from seal_core.types import TableRef
from storage.compact_switch import place_member, replace_member
from storage.naming import partition_of
from storage.parts import (
    CODE_VERSION,
    content_of,
    decode,
    encode,
    metadata_of,
    open_part,
    readable,
    sha256_of,
)

if TYPE_CHECKING:
    from storage.store import Store


def put_part(store: Store, ref: TableRef, data: bytes) -> None:
    """Writes a part; nothing is written if its slot holds these bytes already."""
    try:
        held = sha256_of(store.files.read(ref.path))
    except FileNotFoundError:
        if store.compacts.find(ref.path) is not None:
            if store.compacts.verify(ref) is not None:
                replace_member(store, ref.path, data)
            return
    else:
        if held == ref.sha256:
            return
    store.files.write(ref.path, data)


def adopt_part(store: Store, ref: TableRef, path: str) -> None:
    """Puts a part into another slot; nothing to do if it is there already.

    Raises:
        StoreError: the part is missing.
    """
    own = replace(ref, path=path)
    if path == ref.path or part_problem(store, own) is None:
        return
    with suppress(FileNotFoundError):
        if store.compacts.find(path) is None:
            store.files.link(ref.path, path)
        else:
            replace_member(store, path, store.files.read(ref.path))
        return
    rows, member = store.compacts.rows(ref.path)
    data = encode(rows, member.metadata)
    if sha256_of(data) == ref.sha256:
        put_part(store, own, data)
    else:
        # Other versions of the libraries wrote the part, so its bytes cannot be made again.
        place_member(store, own, member.metadata, rows)


def part_problem(store: Store, ref: TableRef) -> str | None:
    """None if a part is whole, else what is wrong; the adapters that it lists aside."""
    try:
        data = store.files.read(ref.path)
    except FileNotFoundError:
        return store.compacts.verify(ref)
    if sha256_of(data) != ref.sha256:
        return f"{ref.path}: the part's digest does not match"
    count = open_part(data, ref.path).metadata.num_rows
    if count != ref.rows:
        return f"{ref.path}: the part has {count} rows, not {ref.rows}"
    return None


def part_ref(store: Store, table: str, path: str) -> TableRef:
    """The ref to a part as it is now.

    Raises:
        StoreError: it is missing or unreadable.
    """
    try:
        data = store.files.read(path)
    except FileNotFoundError:
        found = store.compacts.find(path)
        if found is None:
            raise StoreError(f"{path} is missing: resume the run") from None
        rows, sha256 = store.compacts.rows(path)[0], found[1].sha256
    else:
        rows, sha256 = decode(data, path)[0], sha256_of(data)
    with readable(path):
        return TableRef(table, path, sha256, rows.num_rows, content_of(table, rows))


def altered(store: Store, path: str) -> str | None:
    """None unless a part differs from what this version of the code writes of its rows.

    For parts whose digest is known nowhere: it finds all damage but to the values themselves.

    Raises:
        StoreError: it is missing or unreadable.
    """
    try:
        data = store.files.read(path)
    except FileNotFoundError:
        rows, member = store.compacts.rows(path)
        return None if rows.num_rows == member.rows else f"{path}: the part lacks rows"
    rows, metadata = decode(data, path)
    if metadata.get("seal.table") != partition_of(path).table:
        return f"{path}: no part that a run wrote: remove it"
    if metadata.get("seal.code_version") != CODE_VERSION:
        return None
    with readable(path):
        whole = encode(rows, metadata) == data
    return None if whole else f"{path}: the part is damaged"


def part_metadata(store: Store, path: str) -> dict[str, str] | None:
    """What a part says of itself; None if there is no readable one."""
    try:
        return metadata_of(store.files.read(path), path)
    except FileNotFoundError:
        found = store.compacts.find(path)
        return found[1].metadata if found else None
    except StoreError:
        return None
