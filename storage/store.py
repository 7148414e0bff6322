"""The store: writes, reads, verifies and links table parts and adapters."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

import seal_core
from seal_core.errors import InputError, StoreError
from seal_core.types import TableRef
from storage import weights
from storage.files import Files
from storage.marker import open_marker
from storage.naming import (
    DAMAGED,
    check_ref,
    check_run,
    content_path,
    lock_name,
    part_path,
    round_of,
)
from storage.roots import local_state_root, open_files
from storage.tables import TABLES

MARKER = "store.json"
FORMAT = 2
_WITH_WEIGHTS = ("adapters", "policies")


class Store:
    """Parquet tables and adapters in a folder or in object storage; see `Store.open`."""

    def __init__(self, files: Files) -> None:
        self.files = files
        self.root = files.root
        self.state_root = local_state_root(files.root)
        self.log_root = self.state_root / "_logs"
        self.mended: str | None = None

    @classmethod
    def open(cls, root: str, create: bool = True) -> Store:
        """Opens a store, and makes one of an empty or new folder.

        Args:
            root: A folder, a `file://` URL, or `s3://bucket/prefix`.
            create: Make it if it is not there, and insist that it is writable. Without it an
                existing store is opened, which may be read-only.

        Raises:
            InputError: the root is a file, is no store, or is not writable.
        """
        files = open_files(root)
        mended = open_marker(files, MARKER, {"format": FORMAT, "kind": "SEAL store"}, create=create)
        store = cls(files)
        store.mended = mended
        if create:
            store.log_root.mkdir(parents=True, exist_ok=True)
        return store

    def write_part(
        self,
        table: str,
        rows: Sequence[Any],
        *,
        run: str,
        round_index: int,
        slot: str,
        identity: str = "",
        write: bool = True,
    ) -> TableRef:
        """Writes rows as the one part of a slot; nothing is written if it holds them already.

        Equal rows under the same identity and code version give equal bytes. What the slot held
        before is replaced whole, so that work done again, with other bits, doubles no row.

        Args:
            slot: Place of the part within run and round, e.g. `finetune round_0/3`.
            identity: Digest of what the rows were made from; kept in the part's metadata.
            write: False to learn the ref only.

        Raises:
            TypeError: a row is not of the table.
            ValueError: the table or round is not one.
        """
        data = _encode(table, rows, identity)
        ref = _ref(table, part_path(table, run, round_index, slot), data, rows)
        if write and self._sha256(ref.path) != ref.sha256:
            self.files.write(ref.path, data)
        return ref

    def append_part(
        self, table: str, rows: Sequence[Any], *, run: str, round_index: int
    ) -> TableRef:
        """Writes rows as a part named by its content: history, which nothing replaces."""
        data = _encode(table, rows, "")
        sha256 = hashlib.sha256(data).hexdigest()
        ref = _ref(table, content_path(table, run, round_index, sha256), data, rows)
        self.files.write(ref.path, data)
        return ref

    def read(self, ref: TableRef) -> list[Any]:
        """The rows of a part, as the table's dataclass.

        Raises:
            StoreError: the part is missing or unreadable.
        """
        check_ref(ref)
        return self._read_path(ref.table, ref.path)

    def rows(self, table: str, run: str | None = None) -> list[tuple[int, Any]]:
        """All rows of a table, or of one run in it, each with its round."""
        paths = self.files.glob(f"{table}/run={check_run(run) if run else '*'}/round=*/part-*")
        parts = [path for path in paths if path.endswith(".parquet")]
        return [(round_of(path), row) for path in parts for row in self._read_path(table, path)]

    def verify(self, ref: TableRef) -> str | None:
        """None if a part, and every adapter it lists, is whole; else what is wrong."""
        check_ref(ref)
        if not self.files.exists(ref.path):
            return f"{ref.path}: the part is missing"
        data = self.files.read(ref.path)
        if hashlib.sha256(data).hexdigest() != ref.sha256:
            return f"{ref.path}: the part's digest does not match"
        count = pq.read_metadata(io.BytesIO(data)).num_rows
        if count != ref.rows:
            return f"{ref.path}: the part has {count} rows, not {ref.rows}"
        return self._verify_weights(ref) if ref.table in _WITH_WEIGHTS else None

    def own_ref(self, ref: TableRef, run: str, round_index: int, slot: str) -> TableRef:
        """The same part where a run keeps, or would keep, its own copy of it."""
        check_ref(ref)
        path = part_path(ref.table, run, round_index, slot)
        return TableRef(ref.table, path, ref.sha256, ref.rows)

    def adopt(self, ref: TableRef, run: str, round_index: int, slot: str) -> TableRef:
        """Links a part into a run's own partition; nothing to do if it is there already.

        Raises:
            StoreError: the part is missing.
        """
        adopted = self.own_ref(ref, run, round_index, slot)
        path = adopted.path
        if path == ref.path or self._sha256(path) == ref.sha256:
            return adopted
        if not self.files.exists(ref.path):
            raise StoreError(f"{ref.path} is missing: resume the run that wrote it")
        self.files.link(ref.path, path)
        return adopted

    def part_path(self, table: str, run: str, round_index: int, slot: str) -> str:
        """Where `write_part` puts the part of a slot."""
        return part_path(table, run, round_index, slot)

    def part_paths(self, table: str, run: str) -> set[str]:
        """Paths of the parts that a run has in a table."""
        return set(self.files.glob(f"{table}/run={check_run(run)}/round=*/part-*.parquet"))

    def identity_of(self, path: str) -> str | None:
        """Digest of what a part's rows were made from; None if there is no readable part."""
        if not self.files.exists(path):
            return None
        try:
            metadata = pq.read_metadata(io.BytesIO(self.files.read(path))).metadata or {}
        except pa.ArrowException:
            return None
        return metadata.get(b"seal.identity", b"").decode()

    def set_aside(self, path: str) -> None:
        """Moves a damaged file that nothing can rebuild to where no query finds it."""
        self.files.write(f"{DAMAGED}/{path.replace('/', '_')}", self.files.read(path))
        self.files.delete(path)

    def put_adapter(self, folder: Path) -> tuple[str, str]:
        """See `storage.weights.put_adapter`."""
        uri, sha256 = weights.put_adapter(self.files, folder)
        self.files.delete(weights.pruned_mark(uri))
        return uri, sha256

    def adapter_folder(self, uri: str) -> Path:
        """See `storage.weights.adapter_folder`."""
        return weights.adapter_folder(self.files, uri)

    def verify_adapter(self, uri: str, sha256: str) -> str | None:
        """None if an adapter is whole, or was removed on purpose; see `storage.pruning`."""
        problem = weights.verify_adapter(self.files, uri, sha256)
        if problem and not self.files.exists(uri) and self.files.exists(weights.pruned_mark(uri)):
            return None
        return problem

    @contextmanager
    def lock(self, name: str, timeout: float = -1, busy: str | None = None) -> Iterator[None]:
        """Holds a lock between processes; the kernel frees it when its holder dies.

        Args:
            timeout: Seconds to wait; -1 for ever.
            busy: What to tell the user when the time is over.

        Raises:
            InputError: the lock was not free in time.
        """
        lock = FileLock(self.state_root / "_locks" / lock_name(name))
        try:
            lock.acquire(timeout=timeout)
        except Timeout as error:
            raise InputError(busy or f"{name} is in use by another process: try later") from error
        try:
            yield
        finally:
            lock.release()

    def _sha256(self, path: str) -> str | None:
        """Digest of a file; None if it is not there."""
        try:
            return hashlib.sha256(self.files.read(path)).hexdigest()
        except FileNotFoundError:
            return None

    def _read_path(self, table: str, path: str) -> list[Any]:
        try:
            # Not `read_table`, which would take run and round from the path as columns.
            part = pq.ParquetFile(io.BytesIO(self.files.read(path))).read()
        except (OSError, pa.ArrowException) as error:
            raise StoreError(f"{path} is missing or damaged ({error}): resume the run") from error
        return TABLES[table].from_arrow(part)

    def _verify_weights(self, ref: TableRef) -> str | None:
        pairs = [(row.uri, row.sha256) for row in self.read(ref) if row.uri is not None]
        if weights.verify_adapters(self.files, pairs) is None:
            return None
        # Some are damaged, or were removed on purpose.
        problems = (self.verify_adapter(*pair) for pair in pairs)
        return next((problem for problem in problems if problem), None)


def _ref(table: str, path: str, data: bytes, rows: Sequence[Any]) -> TableRef:
    return TableRef(table, path, hashlib.sha256(data).hexdigest(), len(rows))


def _encode(table: str, rows: Sequence[Any], identity: str) -> bytes:
    declared = TABLES[table]
    metadata = {
        "seal.table": table,
        "seal.table_version": str(declared.version),
        "seal.identity": identity,
        "seal.code_version": seal_core.__version__,
    }
    sink = io.BytesIO()
    arrow = declared.to_arrow(rows).replace_schema_metadata(metadata)
    pq.write_table(arrow, sink, compression="zstd")
    return sink.getvalue()
