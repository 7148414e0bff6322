"""Damage is damage, and what it left is told from what was mended, be it a single bit."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.chaos.corrupt import unequal
from tests.chaos.damages import KINDS, Damage, draw, group_of, plan_damages, read_files

FILES = {
    "answers/run=a/round=0/part-1.parquet": b"one",
    "answers/run=a/round=0/part-2.parquet": b"two",
    "runs/run=a/round=-1/part-1.parquet": b"run",
    "_adapters/ab/abc/adapter_model.safetensors": b"weights",
    "_adapters/ab/abc/adapter_config.json": b"config",
    "_adapters/cd/cde/adapter_config.json": b"other",
    "_results/1.json": b"result",
    "_runs/a.json": b"record",
    "store.json": b"marker",
}
PAIRS = [
    (group, kind)
    for group in sorted({group_of(path) for path in FILES})
    for kind in KINDS
    if (group, kind) != ("_adapters .safetensors", "swap two files")
]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    for path, data in FILES.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(data)
    (tmp_path / "_logs").mkdir()
    (tmp_path / "_logs/engine.log").write_text("not of a store's making")
    (tmp_path / "answers/.part.tmp").write_text("left by a kill")
    return tmp_path


@pytest.mark.parametrize(("group", "kind"), PAIRS)
def test_damage_changes_the_files_that_it_names_and_no_other(
    store: Path, group: str, kind: str
) -> None:
    for seed in range(20):
        damage = draw(FILES, group, kind, random.Random(seed))
        damage.apply(store)
        found = read_files(store)
        changed = {path for path in FILES if found.get(path) != FILES[path]}
        assert changed == set(damage.paths)
        assert group_of(damage.paths[0]) == group
        assert damage.remains(found)
        assert not damage.remains(FILES)
        for path, data in FILES.items():
            (store / path).write_bytes(data)


def test_kinds_are_what_they_say() -> None:
    data = FILES["answers/run=a/round=0/part-1.parquet"]
    files = {"answers/run=a/round=0/part-1.parquet": data}
    for seed in range(50):
        (flipped,) = draw(files, "answers", "flip a bit", random.Random(seed)).after
        assert flipped is not None and len(flipped) == len(data)
        assert sum((a ^ b).bit_count() for a, b in zip(data, flipped, strict=True)) == 1
        (short,) = draw(files, "answers", "truncate", random.Random(seed)).after
        assert short is not None and data.startswith(short) and short != data
    swap = draw(FILES, "store.json", "swap two files", random.Random(0))
    assert swap.after == (FILES[swap.paths[1]], b"marker")


def test_every_group_and_every_kind_has_its_turn() -> None:
    plan = plan_damages(FILES, 40, random.Random(0))
    groups = [group for group, _ in plan]
    assert set(groups) == {group_of(path) for path in FILES}
    assert max(map(groups.count, groups)) - min(map(groups.count, groups)) <= 1
    assert {kind for _, kind in plan} == set(KINDS)


def test_an_adapter_is_named_by_its_folder() -> None:
    damage = Damage("delete", ("_adapters/ab/abc/adapter_config.json",), (None,))
    assert damage.names == ("_adapters/ab/abc",)


def test_any_file_that_is_otherwise_is_seen() -> None:
    after = {**FILES, "answers/run=a/round=0/part-1.parquet": b"onE"}
    del after["_runs/a.json"]
    after["answers/run=a/round=0/part-9.parquet"] = b"too much"
    assert unequal(FILES, after, {}, set()) == [
        "_runs/a.json is gone",
        "answers/run=a/round=0/part-1.parquet is changed",
        "answers/run=a/round=0/part-9.parquet is changed",
    ]


def test_only_what_was_executed_again_may_have_new_times() -> None:
    after = {**FILES, "_results/1.json": b"new times", "stages/run=a/round=0/part-3.parquet": b"x"}
    owners = {"_results/1.json": {("evaluate baseline", 0)}}
    assert unequal(FILES, after, owners, {("evaluate baseline", 0)}) == []
    assert unequal(FILES, after, owners, set()) == ["_results/1.json is changed"]
