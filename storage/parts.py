"""One part as bytes: rows in Parquet, and in its metadata what they are and were made from."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import seal_core
from storage.tables import TABLES

ROW_GROUP = 122_880
"""Rows that a reader takes at once; DuckDB's own size."""


def encode_rows(table: str, rows: Sequence[Any], identity: str) -> bytes:
    """A part of these rows; the same rows, identity and code version give the same bytes.

    Args:
        identity: Digest of what the rows were made from.

    Raises:
        TypeError: a row is not of the table.
    """
    return encode(TABLES[table].to_arrow(rows), part_metadata(table, identity))


def part_metadata(table: str, identity: str) -> dict[str, str]:
    """What a part of this version of the code says of itself."""
    return {
        "seal.table": table,
        "seal.table_version": str(TABLES[table].version),
        "seal.identity": identity,
        "seal.code_version": seal_core.__version__,
    }


def encode(rows: pa.Table, metadata: Mapping[str, str]) -> bytes:
    """A Parquet file of these rows, with this metadata and no other."""
    sink = io.BytesIO()
    arrow = rows.replace_schema_metadata(dict(metadata))
    pq.write_table(arrow, sink, compression="zstd", row_group_size=ROW_GROUP)
    return sink.getvalue()


def decode(data: bytes) -> tuple[pa.Table, dict[str, str]]:
    """Rows and metadata of a part.

    Raises:
        pa.ArrowException: it is no Parquet file.
    """
    # Not `read_table`, which would take run and round from the path as columns.
    file = pq.ParquetFile(io.BytesIO(data))
    return file.read(), read_metadata(file.metadata)


def read_metadata(footer: pq.FileMetaData) -> dict[str, str]:
    """What a part says of itself; without the Arrow schema, which every writer adds."""
    found = {key.decode(): value.decode() for key, value in (footer.metadata or {}).items()}
    return {key: value for key, value in found.items() if key.startswith("seal.")}


def sha256_of(data: bytes) -> str:
    """Digest of a part's bytes, as refs have it."""
    return hashlib.sha256(data).hexdigest()
