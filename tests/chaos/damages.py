"""Random damage to files of a finished run's store: what is hit, how, and whose work it was."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from storage.tables.schema import TABLES

KINDS = ("delete", "truncate", "flip a bit", "swap two files")
ROOTS = (*TABLES, "_adapters", "_results", "_runs", "store.json")
"""Tables, adapters, records of results and of the run, and the store's marker."""

Files = Mapping[str, bytes]
Owner = tuple[str, int]
"""A shard, by the label of its stage and its number."""


@dataclass(frozen=True)
class Damage:
    """Something done to one file, or to two.

    Attributes:
        paths: The files, relative to the store.
        after: Their bytes now; None for a file that is gone.
    """

    kind: str
    paths: tuple[str, ...]
    after: tuple[bytes | None, ...]

    def apply(self, store: Path) -> None:
        """Does it."""
        for path, data in zip(self.paths, self.after, strict=True):
            if data is None:
                (store / path).unlink()
            else:
                (store / path).write_bytes(data)

    def remains(self, files: Files) -> bool:
        """Whether a damaged file is still as the damage left it."""
        pairs = zip(self.paths, self.after, strict=True)
        return any(files.get(path) == data for path, data in pairs)

    @property
    def names(self) -> tuple[str, ...]:
        """What a message has to say for each file: its path, or its adapter."""
        return tuple(p.rpartition("/")[0] if p.startswith("_adapters") else p for p in self.paths)


def read_files(store: Path) -> dict[str, bytes]:
    """All files that can be damaged, by path."""
    found = {}
    for name in ROOTS:
        root = store / name
        for path in [root] if root.is_file() else sorted(root.rglob("*")):
            if path.is_file() and not path.name.startswith("."):
                found[path.relative_to(store).as_posix()] = path.read_bytes()
    return found


def group_of(path: str) -> str:
    """The table, or other kind of file, that a path belongs to."""
    first = path.split("/")[0]
    return f"{first} {Path(path).suffix}" if first == "_adapters" else first


def draw(files: Files, group: str, kind: str, chance: random.Random) -> Damage:
    """Damage of a kind to a file of a group."""
    path = chance.choice([path for path in files if group_of(path) == group])
    data = files[path]
    if kind == "swap two files":
        other = chance.choice(_partners(files, path))
        return Damage(kind, (path, other), (files[other], data))
    ways: dict[str, Callable[[], bytes | None]] = {
        "delete": lambda: None,
        "truncate": lambda: data[: chance.randrange(len(data))],
        "flip a bit": lambda: _flip(data, chance.randrange(8 * len(data))),
    }
    return Damage(kind, (path,), (ways[kind](),))


def plan_damages(files: Files, n: int, chance: random.Random) -> list[tuple[str, str]]:
    """Groups that are there in turn and kinds in turn, each time in another order."""
    there = sorted({group_of(path) for path in files})
    groups: list[str] = []
    kinds: list[str] = []
    while len(groups) < n:
        groups += chance.sample(there, len(there))
    while len(kinds) < n:
        kinds += chance.sample(KINDS, len(KINDS))
    return list(zip(groups[:n], kinds[:n], strict=True))


def _partners(files: Files, path: str) -> list[str]:
    """Files to swap with: of the same group, or of the same format if it has no other."""
    others = [other for other in files if files[other] != files[path]]
    same = [other for other in others if group_of(other) == group_of(path)]
    tables_or_records = [other for other in others if not other.startswith("_adapters")]
    return same or [o for o in tables_or_records if Path(o).suffix == Path(path).suffix]


def _flip(data: bytes, bit: int) -> bytes:
    place, shift = divmod(bit, 8)
    return data[:place] + bytes([data[place] ^ (1 << shift)]) + data[place + 1 :]


def owners_of(store: Path) -> dict[str, set[Owner]]:
    """The shards that made each file; those of files that no shard makes are missing."""
    owners: dict[str, set[Owner]] = {}
    for path in sorted((store / "_results").glob("*.json")):
        for result in json.loads(path.read_bytes())["value"]["results"]:
            row = result["execution"]["row"]
            owner = (row["label"], row["shard"])
            owners.setdefault(path.relative_to(store).as_posix(), set()).add(owner)
            for ref in result["refs"]:
                owners.setdefault(ref["path"], set()).add(owner)
                for adapter in _adapters_in(store, ref):
                    owners.setdefault(adapter, set()).add(owner)
    return owners


def _adapters_in(store: Path, ref: Mapping[str, str]) -> Sequence[str]:
    if ref["table"] not in ("adapters", "policies"):
        return ()
    uris = pq.ParquetFile(store / ref["path"]).read(["uri"]).column("uri").to_pylist()
    return [
        path.relative_to(store).as_posix()
        for uri in uris
        if uri is not None
        for path in (store / uri).iterdir()
    ]
