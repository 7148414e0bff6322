"""Where the rows of a Parquet file are now: in the file itself, or in a compacted one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from seal_core.types import TableRef
from storage.tables.encoding import metadata_of, open_part, sha256_of
from storage.tables.manifest import Compacted, Member


@dataclass(frozen=True)
class Located:
    """A file as it was found; what it is said to hold raises `StoreError` if it is damaged.

    Attributes:
        data: Its bytes; None unless there is a file of its own.
        file: The compacted file that has its rows; None if none has.
        problem: What is wrong with the compacted file, or that there is neither.
    """

    path: str
    data: bytes | None = None
    file: Compacted | None = None
    problem: str | None = None

    @property
    def member(self) -> Member | None:
        """What the compacted file says of it."""
        return self.file.places[self.path][1] if self.file else None

    @cached_property
    def sha256(self) -> str | None:
        """Digest that refs to it have; None if it is missing."""
        if self.data is not None:
            return sha256_of(self.data)
        return self.member.sha256 if self.member else None

    @property
    def metadata(self) -> dict[str, str] | None:
        """What it says of itself; None if it is missing."""
        if self.data is not None:
            return metadata_of(self.data, self.path)
        return self.member.metadata if self.member else None

    def differs(self, ref: TableRef) -> str | None:
        """None if it is whole, and the file of a ref; else what is wrong."""
        if self.problem is not None:
            return self.problem
        if self.sha256 != ref.sha256:
            return f"{self.path}: the part's digest does not match"
        count = self.member.rows if self.member else self._count()
        if count != ref.rows:
            return f"{self.path}: the part has {count} rows, not {ref.rows}"
        return None

    def _count(self) -> int:
        return open_part(self.data or b"", self.path).metadata.num_rows
