"""Makes the bytes of a compact file."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from seal_core.fingerprint import digest
from storage.compacts import Compact, Member
from storage.naming import Partition
from storage.parts import COMPRESSION, ROW_GROUP, sha256_of
from storage.tables import TABLES


@dataclass(frozen=True)
class Piece:
    """A part on its way into a compact file."""

    path: str
    sha256: str
    metadata: dict[str, str]
    rows: pa.Table


def build(
    partition: Partition,
    pieces: Iterable[Piece],
    replaces: tuple[str, ...],
    incoming: str | None,
) -> tuple[Compact, bytes]:
    """The compact file of these pieces, in their order."""
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
