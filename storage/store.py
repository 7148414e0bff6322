"""The store: tables of rows, adapters and locks below one root."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from seal_core.types import TableRef
from storage.files.base import Files, in_objects
from storage.files.locks import Locks
from storage.files.marker import open_marker
from storage.files.roots import local_state_root, open_files
from storage.tables.row_files import RowFiles
from storage.weights import adapters as weights

MARKER = "store.json"
FORMAT = 3
_AT_ONCE = 16
_WITH_WEIGHTS = ("adapters", "policies")


class Store(RowFiles, Locks):
    """Parquet tables, adapters and locks of a folder or of object storage; see `Store.open`."""

    def __init__(self, files: Files) -> None:
        self.root = files.root
        self.state_root = local_state_root(files.root)
        self.log_root = self.state_root / "_logs"
        self.mended: str | None = None
        Locks.__init__(self, self.state_root)
        RowFiles.__init__(self, files, self.lock)

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

    def verify(self, ref: TableRef) -> str | None:
        """None if a part, and every adapter it lists, is whole; else what is wrong."""
        problem = self.verify_rows(ref)
        if problem is not None or ref.table not in _WITH_WEIGHTS:
            return problem
        pairs = [(row.uri, row.sha256) for row in self.read(ref) if row.uri is not None]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            problems = pool.map(lambda pair: self.verify_adapter(*pair), pairs)
            return next((problem for problem in problems if problem), None)

    def adopt(self, ref: TableRef, run: str, round_index: int, slot: str) -> TableRef:
        """As `RowFiles.adopt`; weights that it lists are not pruned at the same time."""
        with self.keeping_weights() if ref.table in _WITH_WEIGHTS else nullcontext():
            return super().adopt(ref, run, round_index, slot)

    def keeping_weights(self) -> AbstractContextManager[None]:
        """Held, on this machine, where weights go and where rows that need them are taken over."""
        return self.lock("weights")

    def put_adapter(self, folder: Path, note: Mapping[str, str] | None = None) -> tuple[str, str]:
        """See `storage.weights.adapters.put_adapter`."""
        uri, sha256 = weights.put_adapter(self.files, folder, note)
        self.files.delete(weights.pruned_mark(uri))
        return uri, sha256

    def adapter_folder(self, uri: str) -> Path:
        """See `storage.weights.adapters.adapter_folder`."""
        return weights.adapter_folder(self.files, uri)

    def verify_adapter(self, uri: str, sha256: str) -> str | None:
        """None if an adapter is whole, or was removed on purpose; see `storage.runs.pruning`."""
        problem = weights.verify_adapter(self.files, uri, sha256)
        return None if problem and weights.is_pruned(self.files, uri) else problem

    def holds(self, path: Path) -> bool:
        """Whether a file of this machine is, or would be, inside the store."""
        return isinstance(self.root, Path) and path.resolve().is_relative_to(self.root.resolve())
