"""One part as bytes: rows in Parquet, and in its metadata what they are and were made from."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import seal_core
from seal_core.errors import StoreError
from storage.tables.schema import TABLES

COMPRESSION = "zstd"
CODE_VERSION = f"{seal_core.__version__}, pyarrow {pa.__version__}"
"""What the bytes of a part depend on beside its rows."""
ROW_GROUP = 122_880
"""Rows that a reader takes at once; DuckDB's own size."""


@dataclass(frozen=True)
class Member:
    """What is known of a part, whose rows may be in a compacted file.

    Attributes:
        path: Where it is, or was.
        sha256: Digest of its bytes, which refs to it have.
        metadata: What it says of itself, see `part_metadata`.
    """

    path: str
    sha256: str
    rows: int
    metadata: dict[str, str]


@dataclass(frozen=True)
class Part:
    """The bytes of a part, read as far as is asked for; what is damaged raises `StoreError`."""

    path: str
    data: bytes

    @cached_property
    def sha256(self) -> str:
        """Digest of the bytes, as refs have it."""
        return sha256_of(self.data)

    @property
    def member(self) -> Member:
        """What is known of it; without the Arrow schema, which every writer adds."""
        with readable(self.path):
            footer = self.file.metadata
            said = {k.decode(): v.decode() for k, v in (footer.metadata or {}).items()}
            own = {key: value for key, value in said.items() if key.startswith("seal.")}
            return Member(self.path, self.sha256, footer.num_rows, own)

    def rows(self) -> pa.Table:
        """Its rows."""
        with readable(self.path):
            # Threads of Arrow's may end the interpreter with an abort (apache/arrow 34314, 50482).
            return self.file.read(use_threads=False)

    @cached_property
    def file(self) -> pq.ParquetFile:
        """The file, of which only the footer is read."""
        with readable(self.path):
            # Not `read_table`, which would take run and round from the path as columns.
            return pq.ParquetFile(pa.BufferReader(self.data))


def encode_rows(table: str, rows: Sequence[Any], identity: str) -> tuple[bytes, str]:
    """A part of these rows and their digest; equal rows, identity and versions give equal bytes.

    Args:
        identity: Digest of what the rows were made from.

    Raises:
        TypeError: a row is not of the table.
    """
    arrow = TABLES[table].to_arrow(rows)
    return encode(arrow, part_metadata(table, identity)), content_of(table, arrow)


def part_metadata(table: str, identity: str) -> dict[str, str]:
    """What a part of this version of the code says of itself."""
    return {
        "seal.table": table,
        "seal.table_version": str(TABLES[table].version),
        "seal.identity": identity,
        "seal.code_version": CODE_VERSION,
    }


def encode(rows: pa.Table, metadata: Mapping[str, str]) -> bytes:
    """A Parquet file of these rows, with this metadata and no other.

    The same rows and metadata give the same bytes, also of rows that were read from a file.
    """
    sink = io.BytesIO()
    # Read back, a list's items have another name; and metadata is written in its order.
    schema = TABLES[metadata["seal.table"]].schema.with_metadata(dict(sorted(metadata.items())))
    pq.write_table(
        rows.combine_chunks().cast(schema), sink, compression=COMPRESSION, row_group_size=ROW_GROUP
    )
    return sink.getvalue()


@contextmanager
def readable(path: str) -> Iterator[None]:
    """Turns what pyarrow raises on damaged bytes, which is much, into one error with the path.

    Raises:
        StoreError: what was read in the block is damaged.
    """
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise StoreError(f"{path} is damaged ({reason}): resume the run") from error


def rows_of(table: str, path: str, rows: pa.Table) -> list[Any]:
    """The rows of a part, as the table's dataclass.

    Raises:
        StoreError: they are no rows of the table.
    """
    with readable(path):
        return TABLES[table].from_arrow(rows)


def content_of(table: str, rows: pa.Table) -> str:
    """Digest of rows, whatever bytes they are written in.

    A column in which nothing is does not count, so that a table may get a new one.
    """
    pairs = zip(rows.column_names, rows.columns, strict=True)
    columns = {name: cells.to_pylist() for name, cells in pairs if cells.null_count < len(cells)}
    text = json.dumps([table, rows.num_rows, columns], sort_keys=True, separators=(",", ":"))
    return sha256_of(text.encode())


def sha256_of(data: bytes) -> str:
    """Digest of a part's bytes, as refs have it."""
    return hashlib.sha256(data).hexdigest()
