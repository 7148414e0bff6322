"""What a compact file holds, and which files readers leave out while one takes the parts' place.

A compact file holds the rows of many parts of a partition. Its record,
`_compact/<run>/<table>/<round>/<name>.json`, tells which rows were which part. The moment in which
the compact file appears is the moment in which the parts are out of sight: a name in `_compacting`
announces it, and as long as it is there, readers leave out what the record says is replaced.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, TypeVar

from seal_core.errors import StoreError
from storage.files import Files
from storage.naming import COMPACTING, Partition, announced
from storage.records import decode_record, write_record

T = TypeVar("T")
_PATIENCE_SECONDS = 120.0
_PAUSE_SECONDS = 0.05
_NOTE = b"see storage/compacts.py\n"


@dataclass(frozen=True)
class Member:
    """A part whose rows are in a compact file.

    Attributes:
        path: Where the part was.
        sha256: Digest of its bytes, which refs to it have.
        first_row: 0-based place in the compact file of the first of its `rows` rows.
        metadata: What the part said of itself, see `storage.parts.part_metadata`.
    """

    path: str
    sha256: str
    first_row: int
    rows: int
    metadata: dict[str, str]


@dataclass(frozen=True)
class Compact:
    """A compact file.

    Attributes:
        members: In the order of their rows.
        replaces: Earlier compact files whose members are in this one.
        incoming: A part that comes into sight with this file: it takes the place of a member that
            `replaces` still has.
    """

    partition: Partition
    sha256: str
    members: tuple[Member, ...]
    replaces: tuple[str, ...] = ()
    incoming: str | None = None

    @property
    def path(self) -> str:
        """Where the file is."""
        return self.partition.compact_path(self.sha256)

    @property
    def record(self) -> str:
        """Where its record is."""
        return f"{self.partition.records}/{self.sha256[:16]}.json"

    @property
    def announcement(self) -> str:
        """The name that is in `_compacting` while the file takes the parts' place."""
        where = self.partition
        name = f"{where.table},{where.run},{where.round_index:d},{self.sha256[:16]}"
        return f"{COMPACTING}/{name}"

    @cached_property
    def by_path(self) -> dict[str, Member]:
        """The members."""
        return {member.path: member for member in self.members}

    @property
    def replaced(self) -> set[str]:
        """Files that readers leave out once this one is there."""
        return {*self.by_path, *self.replaces}

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data."""
        return asdict(self)

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> Compact:
        """Inverse of `to_json`."""
        return cls(
            **{
                **plain,
                "partition": Partition(**plain["partition"]),
                "members": tuple(Member(**member) for member in plain["members"]),
                "replaces": tuple(plain["replaces"]),
            }
        )


def write_compact(files: Files, compact: Compact) -> None:
    """Writes the record of a compact file."""
    write_record(files, compact.record, compact.to_json())


def read_compact(files: Files, path: str) -> Compact:
    """The compact file of a record.

    Raises:
        FileNotFoundError: there is no record.
        StoreError: it is damaged, or another file's.
    """
    value = decode_record(files.read(path), path)
    try:
        compact = Compact.from_json(value)
    except (TypeError, KeyError) as error:
        raise StoreError(f"{path}: no record of a compact file ({type(error).__name__})") from error
    if compact.record != path:
        raise StoreError(f"{path}: the record of another compact file")
    return compact


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
    if there:
        return compact.replaced
    return {compact.incoming} if compact.incoming else set()
