"""The manifest of a run: which compacted files count, and which Parquet files are in them.

A file counts if it is compacted and the manifest lists it, or if it is not compacted and no listed
file has its rows. Writers add files first and swap the manifest then, which is one small JSON, so
readers see the state before the swap or the one after it. What no longer counts is deleted later.

A compacted file says in its footer what is in it: a damaged manifest is made again from the files.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from seal_core.errors import StoreError
from storage.files.base import Files
from storage.files.json_records import decode_record, encode_record
from storage.tables.encoding import Member, Part, readable
from storage.tables.paths import (
    MANIFESTS,
    check_run,
    is_compact,
    manifest_record,
    partition_of,
    run_of,
)
from storage.tables.schema import TABLES

MEMBERS = "seal.members"


@dataclass(frozen=True)
class Compacted:
    """A compacted file; its members are in the order of their rows."""

    path: str
    sha256: str
    members: tuple[Member, ...]

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return sum(member.rows for member in self.members)

    @cached_property
    def places(self) -> dict[str, tuple[int, Member]]:
        """By path of a member: 0-based place of its first row, and the member."""
        found, first = {}, 0
        for member in self.members:
            found[member.path] = (first, member)
            first += member.rows
        return found


@dataclass(frozen=True)
class Manifest:
    """The compacted files of a run; `version` rises by one with every swap."""

    version: int = 0
    files: tuple[Compacted, ...] = ()

    @cached_property
    def by_path(self) -> dict[str, Compacted]:
        """The files."""
        return {file.path: file for file in self.files}

    @cached_property
    def by_member(self) -> dict[str, Compacted]:
        """The file that has a member's rows."""
        return {path: file for file in self.files for path in file.places}

    def counts(self, path: str) -> bool:
        """Whether readers take the rows of a file that they find."""
        return path in self.by_path if is_compact(path) else path not in self.by_member


class Manifests:
    """The manifests of one store, each read again when it has changed.

    Args:
        lock: Makes sure that one process at a time changes a manifest.
    """

    def __init__(self, files: Files, lock: Callable[[str], AbstractContextManager[None]]) -> None:
        self._files = files
        self._lock = lock
        self._known: dict[str, tuple[str, Manifest, str | None]] = {}

    def get(self, run: str) -> Manifest:
        """The manifest of a run; if it is damaged, what the compacted files say."""
        return self._read(run, self._versions(run))[0]

    def problem(self, run: str) -> str | None:
        """None if the manifest is whole, else what is wrong."""
        return self._read(run, self._versions(run))[1]

    def find(self, path: str) -> Compacted | None:
        """The compacted file that has the rows of a Parquet file; None if none has."""
        return self.get(partition_of(path).run).by_member.get(path)

    def live(
        self, table: str, run: str | None = None, listing: Callable[[str], list[str]] | None = None
    ) -> list[str]:
        """Paths of the files of a table that count, as of one moment.

        Args:
            run: Only this one's.
            listing: Lists the files that match a pattern; by default those of the store.

        Raises:
            StoreError: a compacted file that counts is missing.
        """
        pattern = f"{table}/run={check_run(run) if run else '*'}/round=*/part-*.parquet"
        versions = self._versions(run)
        while True:
            paths = (listing or self._files.glob)(pattern)
            manifests = self._all(paths, versions)
            # What a swap made superfluous is deleted after it, and so was there until now.
            before, versions = versions, self._versions(run)
            if versions == before:
                break
        there = set(paths)
        for name, manifest in manifests.items():
            for path in manifest.by_path:
                if path.startswith(f"{table}/") and path not in there:
                    raise StoreError(
                        f"{path}: the compacted file is missing: resume the run {name!r}"
                    )
        return [path for path in paths if manifests.get(run_of(path), _EMPTY).counts(path)]

    def files_of(self, run: str) -> list[str]:
        """Paths of all files of a run's tables, whether they count or not."""
        patterns = (f"{table}/run={check_run(run)}/round=*/part-*.parquet" for table in TABLES)
        return [path for pattern in patterns for path in self._files.glob(pattern)]

    def swap(
        self, run: str, change: Callable[[Manifest], Iterable[Compacted]], above: int = 0
    ) -> None:
        """Replaces the files of a manifest by what `change` makes of it.

        Files that `change` needs are written by it, under the lock.

        Args:
            above: The new version is above this one too.
        """
        with self._lock(f"manifest-{run}"):
            old = self.get(run)
            if not self._versions(run):
                # From now on a manifest that is not there is one that was lost.
                self._write(run, old)
            version = self._versions(run)[manifest_record(run)]
            self._write(run, Manifest(max(old.version, above) + 1, tuple(change(old))), version)

    def repair(self, run: str) -> str | None:
        """Writes a damaged manifest again; says what was wrong."""
        with self._lock(f"manifest-{run}"):
            versions = self._versions(run)
            manifest, problem = self._read(run, versions)
            if problem is None:
                return None
            self._write(run, manifest, versions.get(manifest_record(run), ""))
            return f"{problem}; written again"

    def _write(self, run: str, manifest: Manifest, version: str = "") -> None:
        path, data = manifest_record(run), encode_record(asdict(manifest))
        if not self._files.swap(path, data, version) and self._files.read(path) != data:
            raise StoreError(f"{path}: another machine changed the manifest: try again")

    def _all(self, paths: Iterable[str], versions: Mapping[str, str]) -> dict[str, Manifest]:
        """By run; they may be lost, and of runs without compacted files there is none."""
        runs = {run_of(path) for path in paths if is_compact(path)}
        runs |= {record.removeprefix(f"{MANIFESTS}/").removesuffix(".json") for record in versions}
        return {name: self._read(name, versions)[0] for name in runs}

    def _versions(self, run: str | None) -> dict[str, str]:
        """What changes when a manifest does, by path."""
        return self._files.versions(manifest_record(run) if run else f"{MANIFESTS}/*.json")

    def _read(self, run: str, versions: Mapping[str, str]) -> tuple[Manifest, str | None]:
        path = manifest_record(run)
        version = versions.get(path, "")
        known = self._known.get(run)
        if known is None or known[0] != version:
            known = (version, *self._load(run, path))
            if known[2] is None:
                self._known[run] = known
        return known[1:]

    def _load(self, run: str, path: str) -> tuple[Manifest, str | None]:
        problem = f"{path}: the manifest is missing"
        try:
            return _from_json(path, run, decode_record(self._files.read(path), path)), None
        except FileNotFoundError:
            if not any(map(is_compact, self.files_of(run))):
                return _EMPTY, None
        except StoreError as error:
            problem = str(error)
        return self._rebuilt(run), problem

    def _rebuilt(self, run: str) -> Manifest:
        """From the files; of two with a member in common, one just took the other's place."""
        found: list[tuple[int, Compacted]] = []
        for path in filter(is_compact, self.files_of(run)):
            try:
                found.append(describe(path, self._files.read(path)))
            except (StoreError, FileNotFoundError):
                continue  # Not listed, and so quarantined by the next recovery.
        files, taken = [], set()
        for _, file in sorted(found, key=lambda item: (-item[0], item[1].path)):
            if taken.isdisjoint(file.places):
                files.append(file)
                taken |= file.places.keys()
        return Manifest(max((version for version, _ in found), default=0), tuple(files))


_EMPTY = Manifest()


def describe(path: str, data: bytes) -> tuple[int, Compacted]:
    """The compacted file of these bytes, and the version of the manifest that it was made for.

    Raises:
        StoreError: it is damaged.
    """
    partition, part = partition_of(path), Part(path, data)
    if partition.compact_path(part.sha256) != path:
        raise StoreError(f"{path}: the compacted file's digest does not match its name")
    with readable(path):
        version, members = json.loads(part.member.metadata[MEMBERS])
        file = {"path": path, "sha256": part.sha256, "members": members}
        return version, _compacted(file, partition.run)


def _from_json(path: str, run: str, plain: Any) -> Manifest:
    try:
        return Manifest(plain["version"], tuple(_compacted(file, run) for file in plain["files"]))
    except StoreError as error:
        raise StoreError(f"{path}: {error}") from error
    except (TypeError, KeyError, ValueError) as error:
        raise StoreError(f"{path}: no manifest ({type(error).__name__})") from error


def _compacted(plain: Mapping[str, Any], run: str) -> Compacted:
    """Files outside of the partition are none of a manifest's business: some would be deleted.

    Raises:
        StoreError: it has such.
    """
    members = tuple(Member(**member) for member in plain["members"])
    file = Compacted(plain["path"], plain["sha256"], members)
    partition = partition_of(file.path)
    for member in members:
        if partition_of(member.path) != partition or is_compact(member.path):
            raise StoreError(f"{member.path!r} is none of its files")
    if partition.run != run or not is_compact(file.path):
        raise StoreError(f"{file.path!r} is none of its files")
    return file
