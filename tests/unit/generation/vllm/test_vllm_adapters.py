"""A joined adapter is its stack: the same logits in PEFT and in our own engine."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import peft
import pytest
import torch

from seal_core.generation.vllm.adapters import AdapterShelf
from seal_core.generation.vllm.memory_folder import MemoryFolder
from seal_core.models.files.adapter_files import write_adapter
from seal_core.models.files.joined_adapter import join
from seal_core.models.loading import load_model
from seal_core.models.model_shapes import linear_shapes, target_names

IDS = torch.arange(40).reshape(2, 20)


def logits(model_path: str, paths: tuple[str, ...]) -> torch.Tensor:
    """In double precision, with adapters as PEFT applies them: merged, the last one live."""
    model = load_model(model_path, dtype="float64").model
    for path in paths[:-1]:
        model = peft.PeftModel.from_pretrained(model, path).merge_and_unload()
    if paths:
        model = peft.PeftModel.from_pretrained(model, paths[-1]).eval()
    with torch.inference_mode():
        return model(input_ids=IDS).logits


@pytest.mark.parametrize("names", [("wide", "mlp"), ("small", "wide"), ("mlp",), ("mlp", "mlp")])
def test_a_joined_adapter_is_its_stack(model_path, adapters, tmp_path, names) -> None:
    stack = tuple(adapters[name] for name in names)
    shapes = linear_shapes(model_path)
    shelf = AdapterShelf(tmp_path, shapes, max_rank=16)

    async def joined() -> torch.Tensor:
        async with shelf.hold(stack) as adapter:
            return logits(model_path, (str(adapter.path),))

    assert (asyncio.run(joined()) - logits(model_path, stack)).abs().max() <= 1e-5
    assert list(tmp_path.iterdir()) == []


def test_ranks_add_up_and_missing_targets_are_zero(adapters) -> None:
    weights = join((adapters["small"], adapters["mlp"]))
    assert {a.shape[0] for a, _ in weights.values()} == {4 + 2}
    a, b = weights["model.layers.0.mlp.up_proj"]
    assert not a[:4].any() and not b[:, :4].any() and a[4:].any() and b[:, 4:].any()


def test_no_adapters_are_an_adapter_of_zeros(model_path, tmp_path) -> None:
    shelf = AdapterShelf(tmp_path, linear_shapes(model_path), max_rank=16)

    async def zeros() -> torch.Tensor:
        async with shelf.hold(()) as adapter:
            return logits(model_path, (str(adapter.path),))

    assert torch.equal(asyncio.run(zeros()), logits(model_path, ()))


def test_names_follow_content_and_files_go_with_their_last_user(
    model_path, adapters, tmp_path
) -> None:
    shapes = linear_shapes(model_path)
    one, other = (AdapterShelf(tmp_path, shapes, 16) for _ in range(2))
    small, wide = (adapters["small"],), (adapters["wide"],)

    async def names() -> list[str]:
        async with one.hold(small) as a, one.hold(small) as b, one.hold(wide) as c:
            # Another user's server may have to read them.
            assert len({file.stat().st_mode for file in a.path.iterdir()}) == 1
            assert a.path == b.path and a.path.is_dir()
            async with other.hold(small) as d:
                return [a.name, b.name, c.name, d.name]

    a, b, c, d = asyncio.run(names())
    assert a == b and len({a, c, d}) == 3
    assert asyncio.run(names())[0] == a
    assert list(tmp_path.iterdir()) == []


def test_the_embeddings_and_the_head_are_no_targets(model_path) -> None:
    assert target_names(linear_shapes(model_path)) == sorted(
        ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    )


def test_an_adapter_in_half_precision_is_joined(adapters, tmp_path) -> None:
    weights = join((adapters["wide"],))
    half = {name: (a.bfloat16(), b.bfloat16()) for name, (a, b) in weights.items()}
    write_adapter(tmp_path / "half", half, 8.0, 0.0, "", sorted(half))
    again = join((str(tmp_path / "half"),))
    for name, (a, _) in weights.items():
        assert torch.equal(again[name][0], a.bfloat16().float())


def test_folders_of_dead_owners_are_removed(tmp_path: Path) -> None:
    mine = MemoryFolder(tmp_path)
    dead, young = (tmp_path / f"seal-{os.getuid()}-{name}" for name in ("dead", "young"))
    for folder in (dead, young):
        folder.mkdir()
    (dead / "lock").touch()
    old = tmp_path / f"seal-{os.getuid()}-old"
    old.mkdir()
    os.utime(old, (time.time() - 1000,) * 2)
    second = MemoryFolder(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([mine.path, second.path, young])
    mine.close()
    second.close()
    assert list(tmp_path.iterdir()) == [young]
