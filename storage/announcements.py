"""Announces compact files, and lets readers leave out what one is just taking the place of.

The moment in which a compact file appears is the moment in which its parts are out of sight: a name
in `_compacting` announces it, and as long as it is there, readers leave out what the file's record
says is replaced.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from seal_core.errors import StoreError
from storage.compacts import Compact, read_compact
from storage.files import Files
from storage.naming import COMPACTING, announced

T = TypeVar("T")
_PATIENCE_SECONDS = 120.0
_PAUSE_SECONDS = 0.05
_NOTE = b"see storage/announcements.py\n"


def announce(files: Files, compact: Compact) -> None:
    """Begins to put a compact file in the place of parts."""
    files.write(compact.announcement, _NOTE)


def conclude(files: Files, compact: Compact) -> None:
    """Ends it. A new name stays, so that readers see that something has changed meanwhile."""
    _conclude(files, compact.partition.table, compact.announcement)


def withdraw(files: Files, announcement: str) -> None:
    """Ends what was announced and never came."""
    _conclude(files, announcement.removeprefix(f"{COMPACTING}/").partition(",")[0], announcement)


def _conclude(files: Files, table: str, announcement: str) -> None:
    before = files.glob(f"{COMPACTING}/{table},*")
    files.write(f"{COMPACTING}/{table},{uuid.uuid4().hex}", _NOTE)
    files.delete(announcement)
    for path in before:
        if announced(path) is None:
            files.delete(path)


def announcements(files: Files, run: str) -> list[str]:
    """Compact files of a run that were announced, and neither came nor were withdrawn."""
    found = ((path, announced(path)) for path in files.glob(f"{COMPACTING}/*,{run},*,*"))
    return [path for path, what in found if what is not None and what[0].run == run]


def read_stable(files: Files, tables: Iterable[str], read: Callable[[frozenset[str]], T]) -> T:
    """Reads again until nothing was compacted meanwhile.

    Args:
        tables: What is read; compaction of other tables does not matter.
        read: Takes the paths to leave out.

    Raises:
        StoreError: a compaction did not let it come to an end.
    """
    wanted = set(tables)
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        state, hidden = _state(files, wanted)
        try:
            result = read(hidden)
        except Exception:
            # It may have lost a file that was replaced; else the error is a real one.
            if _state(files, wanted)[0] == state:
                raise
        else:
            if _state(files, wanted)[0] == state:
                return result
        if time.monotonic() > deadline:
            raise StoreError(f"{files.root}: the store is being compacted: try again later")
        time.sleep(_PAUSE_SECONDS)


@contextmanager
def stable(files: Files, tables: Iterable[str]) -> Iterator[frozenset[str]]:
    """Gives the paths to leave out; fails at its end if one of the tables was compacted meanwhile.

    For reads that cannot be done again, see `read_stable`.

    Raises:
        StoreError: what was read may lack rows, or have some twice.
    """
    wanted = set(tables)
    state, hidden = _state(files, wanted)
    try:
        yield hidden
    finally:
        if _state(files, wanted)[0] != state:
            raise StoreError(f"{files.root}: the store was compacted meanwhile: ask again")


def _state(files: Files, tables: set[str]) -> tuple[frozenset[str], frozenset[str]]:
    """What to compare with the state after a read, and the paths to leave out of it."""
    state: set[str] = set()
    hidden: set[str] = set()
    for path in files.glob(f"{COMPACTING}/*,*"):
        if path.removeprefix(f"{COMPACTING}/").partition(",")[0] not in tables:
            continue
        state.add(path)
        if (what := announced(path)) is not None:
            partition, name = what
            there = files.exists(partition.compact_path(name))
            state.update({f"{path} is there"} if there else ())
            hidden |= _hidden(files, f"{partition.records}/{name}.json", there)
    return frozenset(state), frozenset(hidden)


def _hidden(files: Files, record: str, there: bool) -> set[str]:
    try:
        compact = read_compact(files, record)
    except FileNotFoundError:
        return set()
    except StoreError as error:
        raise StoreError(f"{error}: `seal compact` mends it") from error
    if there:
        return compact.replaced
    return {compact.incoming} if compact.incoming else set()
