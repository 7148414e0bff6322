"""Writes, reads and checks the Parquet files of rows, also those that are in compacted ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from itertools import chain
from typing import Any

import pyarrow as pa

from seal_core.errors import StoreError
from seal_core.types import TableRef
from storage.files.base import Files
from storage.tables.compacted import CompactedReader, Packed, Piece, build
from storage.tables.encoding import (
    CODE_VERSION,
    Member,
    Part,
    content_of,
    encode,
    encode_rows,
    readable,
    rows_of,
    sha256_of,
)
from storage.tables.manifest import Compacted, Manifest, Manifests
from storage.tables.paths import (
    DAMAGED,
    Partition,
    check_ref,
    check_run,
    content_path,
    is_compact,
    part_path,
    partition_of,
)

Choose = Callable[[Manifest], tuple[Iterable[Piece], Sequence[Compacted]]]
_TRIES = 200


class RowFiles:
    """The Parquet files of the tables of one store.

    Args:
        lock: Holds a lock between processes, by its name.
    """

    def __init__(self, files: Files, lock: Callable[[str], AbstractContextManager[None]]) -> None:
        self.files = files
        self.manifests = Manifests(files, lock)
        self.compacted = CompactedReader(files)

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
        """Writes rows as the one file of a key; nothing is written if it holds them already.

        Equal rows under the same identity and code version give equal bytes. What the key held
        before is replaced whole, so that work done again, with other bits, doubles no row.

        Args:
            slot: Key of the file within run and round, e.g. `finetune round_0/3`.
            identity: Digest of what the rows were made from; kept in the file's metadata.
            write: False to learn the ref only.

        Raises:
            TypeError: a row is not of the table.
            ValueError: the table or round is not one.
        """
        data, content = encode_rows(table, rows, identity)
        path = part_path(table, run, round_index, slot)
        ref = TableRef(table, path, sha256_of(data), len(rows), content)
        return self._put(ref, data) if write else ref

    def append_part(
        self, table: str, rows: Sequence[Any], *, run: str, round_index: int
    ) -> TableRef:
        """Writes rows as a file named by its content: history, which nothing replaces."""
        data, content = encode_rows(table, rows, "")
        sha256 = sha256_of(data)
        path = content_path(table, run, round_index, sha256)
        return self._put(TableRef(table, path, sha256, len(rows), content), data)

    def read(self, ref: TableRef) -> list[Any]:
        """The rows of a file, as the table's dataclass.

        Raises:
            StoreError: the file is missing, unreadable, or another one than the ref is of.
        """
        return rows_of(ref.table, ref.path, self._load_ref(ref)[1])

    def rows(
        self, table: str, run: str | None = None, round_index: int | None = None
    ) -> list[tuple[int, Any]]:
        """All rows of a table, of one run in it, or of a round, each with the round."""

        def read(paths: Sequence[str]) -> list[tuple[int, Any]]:
            places = [(partition_of(path).round_index, path) for path in paths]
            wanted = [(index, path) for index, path in places if round_index in (None, index)]
            loaded = ((index, rows_of(table, path, self._load(path)[1])) for index, path in wanted)
            return [(index, row) for index, rows in loaded for row in rows]

        return self.read_live(lambda: self.manifests.live(table, run), read)

    def read_live(self, live: Callable[[], Any], read: Callable[[Any], Any]) -> Any:
        """What `read` makes of the files that count; again if they changed and it failed by that.

        Raises:
            StoreError: they do not stop to change.
        """
        for _ in range(_TRIES):
            found = live()
            try:
                return read(found)
            except Exception:
                # It may have lost a file that was compacted; else the error is a real one.
                if live() == found:
                    raise
        raise StoreError(f"{self.files.root}: the store is being compacted: try again later")

    def verify_rows(self, ref: TableRef) -> str | None:
        """None if a file is whole, else what is wrong; adapters that it lists aside."""
        check_ref(ref)
        try:
            return _differs(self.located(ref.path), ref)
        except StoreError as error:
            return str(error)

    def own_ref(self, ref: TableRef, run: str, round_index: int, slot: str) -> TableRef:
        """The same file where a run keeps, or would keep, its own copy of it."""
        check_ref(ref)
        return replace(ref, path=part_path(ref.table, run, round_index, slot))

    def adopt(self, ref: TableRef, run: str, round_index: int, slot: str) -> TableRef:
        """Links a file into a run's own partition; nothing to do if it is there already.

        Raises:
            StoreError: the file is missing, or another one than the ref is of.
        """
        own = self.own_ref(ref, run, round_index, slot)
        if own.path == ref.path or self.verify_rows(own) is None:
            return own
        member, rows = self._load_ref(ref)
        if self.manifests.find(own.path) is None:
            with suppress(FileNotFoundError):
                self.files.link(ref.path, own.path)
                return own
        data = encode(rows, member.metadata)
        if sha256_of(data) == ref.sha256:
            self._put(own, data)
        else:
            # Other versions of the libraries wrote the file, so its bytes cannot be made again.
            self._place(replace(member, path=own.path), rows)
        return own

    def part_paths(self, table: str, run: str) -> set[str]:
        """Paths of the files that a run has in a table, in compacted ones too."""
        found = self.files.glob(f"{table}/run={check_run(run)}/round=*/part-*.parquet")
        members = self.manifests.get(run).by_member
        own = {path for path in members if path.startswith(f"{table}/")}
        return {path for path in found if not is_compact(path)} | own

    def refs(self, table: str, run: str) -> list[TableRef]:
        """Refs to the files that a run has in a table, by path.

        Raises:
            StoreError: one is unreadable.
        """
        return [self.read_ref(table, path) for path in sorted(self.part_paths(table, run))]

    def read_ref(self, table: str, path: str) -> TableRef:
        """The ref to a file as it is now.

        Raises:
            StoreError: it is missing or unreadable.
        """
        member, rows = self._load(path)
        with readable(path):
            content = content_of(table, rows)
        return TableRef(table, path, member.sha256, member.rows, content)

    def identity_of(self, path: str) -> str | None:
        """Digest of what a file's rows were made from; None if there is no readable file."""
        return self._said(path, "seal.identity")

    def located(self, path: str) -> Part | Packed:
        """A file, or what has its rows.

        Raises:
            StoreError: there is neither, or it is in a compacted file that is damaged.
        """
        try:
            return Part(path, self.files.read(path))
        except FileNotFoundError:
            return self._inside(path)

    def is_of_this_version(self, path: str) -> bool:
        """Whether this version of the code and of its libraries wrote a file; False if it cannot
        be read."""
        return self._said(path, "seal.code_version") == CODE_VERSION

    def altered(self, path: str) -> str | None:
        """None unless a file differs from what this version of the code writes of its rows.

        For files whose digest is known nowhere: it finds all damage but to the values themselves.

        Raises:
            StoreError: it is missing or unreadable.
        """
        member, rows = self._load(path)
        if member.metadata.get("seal.table") != partition_of(path).table:
            return f"{path}: no part that a run wrote: remove it"
        if member.metadata.get("seal.code_version") != CODE_VERSION or not self.files.exists(path):
            return None
        with readable(path):
            whole = sha256_of(encode(rows, member.metadata)) == member.sha256
        return None if whole else f"{path}: the part is damaged"

    def quarantine(self, path: str) -> None:
        """Moves a damaged file, if it is there, to where no query finds it."""
        with suppress(FileNotFoundError):
            data = self.files.read(path)
            # A file that is made again may be damaged again, and otherwise.
            name = f"{path.replace('/', '_')}.{sha256_of(data)[:8]}"
            self.files.write(f"{DAMAGED}/{name}", data)
            self.files.delete(path)

    def exchange(self, partition: Partition, choose: Choose) -> tuple[Compacted, int]:
        """Puts one compacted file in the place of other files: writes it, swaps the manifest, and
        deletes what is replaced. A kill at any moment loses and doubles nothing.

        Args:
            choose: Given the manifest, the rows in their order, and the compacted files that go.

        Returns:
            The compacted file, and its size in bytes.
        """
        made: list[tuple[Compacted, int]] = []
        gone: list[Compacted] = []

        def change(manifest: Manifest) -> list[Compacted]:
            pieces, replaced = choose(manifest)
            file, data = build(partition, pieces, manifest.version + 1)
            self.files.write(file.path, data)
            made.append((file, len(data)))
            gone.extend(replaced)
            return [*(other for other in manifest.files if other not in replaced), file]

        self.manifests.swap(partition.run, change)
        ((file, size),) = made
        whole = [other for other in gone if self.compacted.problem(other) is None]
        for other in gone:
            if other not in whole:
                self.quarantine(other.path)
        fresh = file.places.keys() - {path for other in whole for path in other.places}
        replaced = {other.path for other in whole} - {file.path}
        self.files.delete_many(sorted(fresh | replaced))
        return file, size

    def _put(self, ref: TableRef, data: bytes) -> TableRef:
        """Writes a file; nothing is written if its key holds these bytes already."""
        if self.manifests.find(ref.path) is not None:
            with suppress(StoreError):
                if _differs(self._inside(ref.path), ref) is None:
                    return ref
            part = Part(ref.path, data)
            self._place(part.member, part.rows())
            return ref
        with suppress(FileNotFoundError):
            if sha256_of(self.files.read(ref.path)) == ref.sha256:
                return ref
        self.files.write(ref.path, data)
        return ref

    def _place(self, member: Member, rows: pa.Table) -> None:
        """Puts rows under a path as part of a compacted file, in the place of those it had."""

        def choose(manifest: Manifest) -> tuple[Iterable[Piece], list[Compacted]]:
            old = manifest.by_member.get(member.path)
            if old is None or self.compacted.problem(old):
                return [(member, rows)], [old] if old else []
            pieces = self.compacted.pieces(old)
            rest = (piece for piece in pieces if piece[0].path != member.path)
            return chain(rest, [(member, rows)]), [old]

        self.exchange(partition_of(member.path), choose)
        self.files.delete(member.path)

    def _inside(self, path: str) -> Packed:
        """What a compacted file has of a file; a later one if it was replaced meanwhile."""
        file = self.manifests.find(path)
        while file is not None:
            problem = self.compacted.problem(file)
            if problem is None:
                return Packed(file.places[path][1], file, self.compacted)
            before, file = file, self.manifests.find(path)
            if file == before:
                raise StoreError(f"{problem}; {path} is in it")
        raise StoreError(f"{path}: the part is missing")

    def _load(self, path: str) -> Piece:
        """What is known of a file, and its rows.

        Raises:
            StoreError: it is missing or damaged.
        """
        try:
            found = self.located(path)
        except StoreError as error:
            raise StoreError(f"{error}: resume the run") from error
        try:
            return found.member, found.rows()
        except StoreError:
            if isinstance(found, Part) or self.manifests.find(path) == found.file:
                raise
            return self._load(path)

    def _load_ref(self, ref: TableRef) -> Piece:
        """As `_load`, of the very file that a ref is of."""
        check_ref(ref)
        member, rows = self._load(ref.path)
        if member.sha256 != ref.sha256:
            run = partition_of(ref.path).run
            raise StoreError(
                f"{ref.path}: the part's digest does not match: resume the run {run!r}"
            )
        return member, rows

    def _said(self, path: str, key: str) -> str | None:
        """What a file says of itself, maybe nothing; None if there is no readable one.

        Of one in a compacted file the manifest tells; whoever reads its rows finds damage.
        """
        try:
            return Part(path, self.files.read(path)).member.metadata.get(key, "")
        except FileNotFoundError:
            file = self.manifests.find(path)
            return None if file is None else file.places[path][1].metadata.get(key, "")
        except StoreError:
            return None


def _differs(found: Part | Packed, ref: TableRef) -> str | None:
    """None if it is the file of a ref, else what is wrong."""
    if found.sha256 != ref.sha256:
        return f"{ref.path}: the part's digest does not match"
    if found.member.rows != ref.rows:
        return f"{ref.path}: the part has {found.member.rows} rows, not {ref.rows}"
    return None
