"""The store: writes, reads, verifies and links table parts and adapters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from seal_core.errors import InputError, StoreError
from seal_core.types import TableRef
from storage import weights
from storage.announcements import read_stable
from storage.compact_reader import CompactReader
from storage.files import Files, in_objects
from storage.marker import open_marker
from storage.naming import (
    DAMAGED,
    check_ref,
    check_run,
    content_path,
    is_compact,
    lock_name,
    part_path,
    round_of,
)
from storage.parts import CODE_VERSION, decode, encode_rows, readable, sha256_of
from storage.placing import adopt_part, part_metadata, part_problem, part_ref, put_part
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
        self.compacts = CompactReader(files)

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

    @staticmethod
    def is_new(root: str) -> bool:
        """Whether nothing is there yet, so that opening it would make a store.

        Raises:
            InputError: the URL is of a kind that stores cannot be in, or cannot be reached.
        """
        files = open_files(root)
        if in_objects(files):
            return not files.exists(MARKER) and not files.glob("*/*")
        folder = Path(files.root)
        return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))

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
        data, content = encode_rows(table, rows, identity)
        path = part_path(table, run, round_index, slot)
        ref = TableRef(table, path, sha256_of(data), len(rows), content)
        if write:
            put_part(self, ref, data)
        return ref

    def append_part(
        self,
        table: str,
        rows: Sequence[Any],
        *,
        run: str,
        round_index: int,
        write: bool = True,
    ) -> TableRef:
        """Writes rows as a part named by its content: history, which nothing replaces.

        Args:
            write: False to learn the ref only.
        """
        data, content = encode_rows(table, rows, "")
        sha256 = sha256_of(data)
        path = content_path(table, run, round_index, sha256)
        ref = TableRef(table, path, sha256, len(rows), content)
        if write:
            put_part(self, ref, data)
        return ref

    def read(self, ref: TableRef) -> list[Any]:
        """The rows of a part, as the table's dataclass.

        Raises:
            StoreError: the part is missing or unreadable.
        """
        check_ref(ref)
        try:
            data = self.files.read(ref.path)
        except FileNotFoundError:
            return TABLES[ref.table].from_arrow(self.compacts.rows(ref.path)[0])
        return _rows(ref.table, ref.path, data)

    def rows(self, table: str, run: str | None = None) -> list[tuple[int, Any]]:
        """All rows of a table, or of one run in it, each with its round."""
        pattern = f"{table}/run={check_run(run) if run else '*'}/round=*/part-*.parquet"

        def read(hidden: frozenset[str]) -> list[tuple[int, Any]]:
            paths = [path for path in self.files.glob(pattern) if path not in hidden]
            return [(round_of(path), row) for path in paths for row in self._read_path(table, path)]

        return read_stable(self.files, [table], read)

    def verify(self, ref: TableRef) -> str | None:
        """None if a part, and every adapter it lists, is whole; else what is wrong."""
        problem = self.verify_rows(ref)
        if problem is None and ref.table in _WITH_WEIGHTS:
            return self._verify_weights(ref)
        return problem

    def verify_rows(self, ref: TableRef) -> str | None:
        """As `verify`, without the adapters."""
        check_ref(ref)
        return part_problem(self, ref)

    def own_ref(self, ref: TableRef, run: str, round_index: int, slot: str) -> TableRef:
        """The same part where a run keeps, or would keep, its own copy of it."""
        check_ref(ref)
        return replace(ref, path=part_path(ref.table, run, round_index, slot))

    def adopt(self, ref: TableRef, run: str, round_index: int, slot: str) -> TableRef:
        """Links a part into a run's own partition; nothing to do if it is there already.

        Raises:
            StoreError: the part is missing.
        """
        adopted = self.own_ref(ref, run, round_index, slot)
        adopt_part(self, ref, adopted.path)
        return adopted

    def part_path(self, table: str, run: str, round_index: int, slot: str) -> str:
        """Where `write_part` puts the part of a slot."""
        return part_path(table, run, round_index, slot)

    def part_paths(self, table: str, run: str) -> set[str]:
        """Paths of the parts that a run has in a table, in compact files too."""
        found = self.files.glob(f"{table}/run={check_run(run)}/round=*/part-*.parquet")
        members = self.compacts.members(table, run)
        return {p for p in found if not is_compact(p)} | {member.path for member in members}

    def refs(self, table: str, run: str) -> list[TableRef]:
        """Refs to the parts that a run has in a table, by path.

        Raises:
            StoreError: one is unreadable.
        """
        return [self.read_ref(table, path) for path in sorted(self.part_paths(table, run))]

    def read_ref(self, table: str, path: str) -> TableRef:
        """The ref to a part as it is now.

        Raises:
            StoreError: it is missing or unreadable.
        """
        return part_ref(self, table, path)

    def identity_of(self, path: str) -> str | None:
        """Digest of what a part's rows were made from; None if there is no readable part."""
        metadata = part_metadata(self, path)
        return None if metadata is None else metadata.get("seal.identity", "")

    def is_of_this_version(self, path: str) -> bool:
        """Whether this version of the code and of its libraries wrote a part; False if it cannot
        be read."""
        metadata = part_metadata(self, path)
        return metadata is not None and metadata.get("seal.code_version") == CODE_VERSION

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

    def holds(self, path: Path) -> bool:
        """Whether a file of this machine is, or would be, inside the store."""
        return isinstance(self.root, Path) and path.resolve().is_relative_to(self.root.resolve())

    @contextmanager
    def lock(self, name: str, timeout: float = -1, busy: str | None = None) -> Iterator[None]:
        """Holds a lock between processes; the kernel frees it when its holder dies.

        Args:
            timeout: Seconds to wait; -1 for ever.
            busy: What to tell the user when the time is over.

        Raises:
            InputError: the lock was not free in time.
        """
        with self.try_lock(name, timeout) as held:
            if not held:
                raise InputError(busy or f"{name} is in use by another process: try later")
            yield

    @contextmanager
    def try_lock(self, name: str, timeout: float) -> Iterator[bool]:
        """As `lock`; whether it was free in time."""
        path = self.state_root / "_locks" / lock_name(name)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=timeout)
        except Timeout:
            yield False
            return
        except PermissionError as error:
            raise InputError(
                f"store {self.root} is not writable: {path} ({error.strerror})"
            ) from error
        try:
            yield True
        finally:
            lock.release()

    def _read_path(self, table: str, path: str) -> list[Any]:
        try:
            return _rows(table, path, self.files.read(path))
        except FileNotFoundError as error:
            raise StoreError(f"{path} is missing: resume the run") from error

    def _verify_weights(self, ref: TableRef) -> str | None:
        pairs = [(row.uri, row.sha256) for row in self.read(ref) if row.uri is not None]
        if weights.verify_adapters(self.files, pairs) is None:
            return None
        # Some are damaged, or were removed on purpose.
        problems = (self.verify_adapter(*pair) for pair in pairs)
        return next((problem for problem in problems if problem), None)


def _rows(table: str, path: str, data: bytes) -> list[Any]:
    with readable(path):
        return TABLES[table].from_arrow(decode(data, path)[0])
