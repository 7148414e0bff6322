"""Damage to any file of a run is named and mended, with scripted engines.

1. Parts of every table, records of results and of the run, rows of executions; nothing else runs
   again, and every table ends as it was.
2. Two swapped files are both found.
3. A damaged file of executions is named. Rows whose results are in the store are written again;
   those of executions that failed, were killed or were done again have no second copy.
4. A crafted record never runs code: not by a pickle, a class to make, or a library to use.
"""

from __future__ import annotations

import base64
import json
import pickle
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from storage.files.json_records import read_record, write_record
from storage.files.local import LocalFiles
from storage.runs.history import KILLED, begin_execution
from storage.store import Store
from tasks.caching.results import read_result
from tasks.work import ShardResult
from tests.long import first_of
from tests.semantics.conftest import Runner
from tests.semantics.runs import (
    KINDS,
    K,
    ask,
    damage,
    files_of,
    method_tables,
    snapshot,
    tables,
)

GIVEN_OR_MADE = [
    *("problems/run=a", "questions/run=a", "self_edits/run=a/round=0", "adapters/run=a/round=0"),
    *("answers/run=a", "scores/run=a", "selections/run=a", "policies/run=a/round=-1"),
    *("policies/run=a/round=0", "runs/run=a"),
]
SHORT = ("self_edits/run=a/round=0", "answers/run=a", "policies/run=a/round=0", "runs/run=a")
EVERY = [
    pytest.param(i, id=place, marks=[] if place in SHORT else [pytest.mark.long])
    for i, place in enumerate(GIVEN_OR_MADE)
]
RECORDS = ["stages/run=a", "_results", "_runs", "store.json"]


@pytest.mark.parametrize("i", EVERY)
def test_a_damaged_part_is_named_and_mended(done: Runner, store: Path, i: int) -> None:
    """1"""
    check_mended(done, store, {GIVEN_OR_MADE[i]: KINDS[i % len(KINDS)]})


@pytest.mark.parametrize("first", first_of(0, 1, 2))
def test_damaged_records_are_named_and_mended(done: Runner, store: Path, first: int) -> None:
    """1"""
    kinds = {place: KINDS[(first + i) % len(KINDS)] for i, place in enumerate(RECORDS)}
    check_mended(done, store, kinds)


def check_mended(done: Runner, store: Path, kinds: Mapping[str, str]) -> None:
    """Damages the first file of each place, resumes, and looks at what was said and done.

    No file whose second copy another victim is: that nobody could know of any more.
    """
    before, rows = files_of(store), tables(store)
    victims: list[str] = []
    for place in kinds:
        history = [store / victim for victim in victims if victim.startswith("stages/")]
        shards = {key for part in history for key, _ in rows_in(part)}
        paths = (path for path in before if path.startswith(place))
        victims.append(next(path for path in paths if Path(path).stem not in shards))
    for victim, kind in zip(victims, kinds.values(), strict=True):
        damage(store / victim, kind)
    again = done()
    for victim in victims:
        assert any(victim in note for note in done.notes), (victim, done.notes)
    assert len(again.generated) <= 2 * K * 2
    assert len(again.trained) <= 2 * K
    assert tables(store) == rows
    after = files_of(store)
    changed = {k for k in before if after.get(k) != before[k]}
    # The record of a shard that ran again tells of its last execution.
    assert {k for k in changed if not k.startswith(("_results/", "stages/"))} == set()
    n_rows = len([k for k in before if k.startswith("stages/")])
    assert ask(store, "SELECT count(*) FROM stages")[0][0] >= n_rows
    done()
    assert done.notes == []


def test_a_damaged_part_without_its_record(done: Runner, store: Path) -> None:
    """1"""
    rows = tables(store)
    part = min(store.glob("scores/run=a/round=0/part-*.parquet"))
    damage_footer(part)
    for record in [p for p in (store / "_results").iterdir() if part.name in p.read_text()]:
        record.unlink()
    done()
    assert any(f"{part.relative_to(store)}: the part is damaged" in note for note in done.notes)
    assert tables(store) == rows


def damage_footer(part: Path) -> None:
    """Where the type of a field should be, is none."""
    data = part.read_bytes()
    start = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    part.write_bytes(data[:start] + b"\xff" * 8 + data[start + 8 :])


@pytest.mark.parametrize("place", first_of("answers/run=a/round=0", "stages/run=a", "_results"))
def test_swapped_files_are_found(done: Runner, store: Path, place: str) -> None:
    """2"""
    rows = tables(store)
    one, two = [path for path in files_of(store) if path.startswith(place)][:2]
    a, b = (store / one).read_bytes(), (store / two).read_bytes()
    (store / one).write_bytes(b)
    (store / two).write_bytes(a)
    done()
    for victim in (one, two):
        assert any(victim in note for note in done.notes), (victim, done.notes)
    assert tables(store) == rows


@pytest.mark.parametrize(
    "kind",
    first_of("flip", "delete", "truncate"),
)
def test_rows_of_executions_are_written_again(done: Runner, store: Path, kind: str) -> None:
    """3"""
    opened = Store.open(str(store))
    row = next(r for _, r in opened.rows("stages", "a") if r.label == "finetune round_0")
    begin_execution(opened, "a", 0, replace(row, ended_at=None, started_at="2026-01-01"))
    next(store.glob("answers/run=a/round=0/*.parquet")).unlink()
    done()  # One execution was killed, and one is done again.
    before = executed(store)
    (killed,) = ask(store, f"SELECT identity, started_at FROM stages WHERE error = '{KILLED}'")
    rows = [result.execution.row for result in results(opened)]
    superseded = before - {(own["identity"], own["started_at"]) for own in rows} - {killed}
    assert len(superseded) == 1
    parts = sorted(store.glob("stages/run=a/round=*/part-*.parquet"))
    assert len(parts) > 10
    for part in parts:
        damage(part, kind)
    again = done()
    assert (again.generated, again.trained, again.updates) == ([], [], 0)
    assert executed(store) == before - superseded - {killed}
    if kind == "delete":  # What was in a file that is gone is known by the records of results.
        assert any("were missing in the history; written again" in note for note in done.notes)
    else:
        assert all(any(part.name in note for note in done.notes) for part in parts)
    done()
    assert done.notes == []


def rows_in(part: Path) -> set[tuple[str, str]]:
    """Shard and start of each execution in a file of `stages`."""
    rows = pq.ParquetFile(part).read(["identity", "started_at"])
    return set(zip(*(column.to_pylist() for column in rows.columns), strict=True))


def executed(store: Path) -> set[tuple[Any, ...]]:
    return set(ask(store, "SELECT identity, started_at FROM stages"))


def results(store: Store) -> list[ShardResult]:
    paths = store.files.glob("_results/*.json")
    return [ShardResult.from_json(read_result(store, Path(path).stem)) for path in paths]


class _Bomb:
    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.touch, (self._path,)


def crafted(kind: str, value: dict[str, Any], fired: Path) -> dict[str, Any]:
    """A record as Prefect's own storage would have it, that runs code where it is decoded."""
    if kind == "pickle":
        bomb = base64.b64encode(pickle.dumps(_Bomb(fired))).decode()
        serializer = {"type": "pickle", "picklelib": "cloudpickle"}
        return {"metadata": {"serializer": serializer}, "result": bomb}
    call = {"__class__": "subprocess.getoutput", "data": [f"touch {fired}"]}
    (result,) = value["results"]
    result = {**result, "identity": {**result["identity"], "more": call}}
    if kind == "class":
        return {"results": [result]}
    return {"metadata": {"serializer": {"type": "json", "jsonlib": "os"}}, "result": result}


@pytest.mark.parametrize("kind", first_of("pickle", "class", "library"))
def test_a_record_with_code_in_it(done: Runner, store: Path, tmp_path: Path, kind: str) -> None:
    """4"""
    rows = tables(store)
    name = f"_results/{next((store / '_results').iterdir()).name}"
    files, fired = LocalFiles(store), tmp_path / "fired"
    write_record(files, name, crafted(kind, read_record(files, name), fired))
    done()
    assert not fired.exists()
    if kind != "class":  # That is plain JSON, and read as such.
        assert any(name in note and "refused" in note for note in done.notes)
    assert tables(store) == rows
    for path, data in files_of(store).items():
        assert not data.startswith(b"\x80") and b"cloudpickle" not in data, path
        if path.endswith(".json"):
            json.loads(data)
    assert snapshot(store).keys() == {k for k in files_of(store) if k.endswith(".parquet")}
    assert method_tables(store)
