"""What a compact file holds: the rows of many parts of a partition, and which rows were which part.

The record of a compact file is `_compact/<run>/<table>/<round>/<name>.json`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from seal_core.errors import StoreError
from storage.files import Files
from storage.naming import COMPACT_RECORDS, COMPACTING, Partition, is_compact, partition_of
from storage.records import decode_record, write_record


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
    def rows(self) -> int:
        """How many rows it has."""
        return sum(member.rows for member in self.members)

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
        _check_paths(compact)
    except (TypeError, KeyError, ValueError) as error:
        raise StoreError(f"{path}: no record of a compact file ({type(error).__name__})") from error
    if compact.record != path:
        raise StoreError(f"{path}: the record of another compact file")
    return compact


def _check_paths(compact: Compact) -> None:
    """Files outside of the partition are none of a record's business: some would be deleted."""
    parts = {*compact.by_path, *([compact.incoming] if compact.incoming else [])}
    for path in (compact.path, *parts, *compact.replaces):
        try:
            own = partition_of(path) == compact.partition and is_compact(path) != (path in parts)
        except StoreError:
            own = False
        if not own:
            raise StoreError(f"{compact.record}: {path!r} is none of its files")


def record_of(path: str) -> str:
    """The record of a compact file."""
    name = path.removesuffix(".parquet").rpartition("-")[2]
    return f"{partition_of(path).records}/{name}.json"


def path_of(record: str) -> str:
    """The compact file of a record."""
    run, table, index, name = record.removeprefix(f"{COMPACT_RECORDS}/").split("/")
    return Partition(table, run, int(index)).compact_path(name.removesuffix(".json"))
