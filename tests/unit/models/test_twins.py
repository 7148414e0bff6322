"""Engines of one process hold a model's weights once, and none sees what another does to it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from seal_core.engines import GenerateRequest, LoraSettings, TrainJob, TrainRow
from seal_core.errors import EngineError, InputError
from seal_core.models.loading import load_model
from seal_core.models.lora_layers import LinearLayers
from seal_core.process.host import Engines
from seal_core.process.spec import EngineSpec
from seal_core.training.batched_trainer import BatchedTrainer
from seal_core.training.peft_trainer import PeftTrainer

IDS = torch.tensor([[5, 7, 9, 11]])
ROWS = tuple(TrainRow(text) for text in ("the Avel flows", "south of Orm", "a bridge"))


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits


def places(model) -> set[int]:
    return {weight.data_ptr() for weight in model.parameters()}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", ["qwen2", "llama"])
def test_a_merge_is_seen_by_one_and_undone(family, dtype, make_model, tmp_path) -> None:
    base = load_model(make_model(tmp_path / "model", family), dtype=dtype)
    one, other = base.twin(), base.twin()
    assert places(one.model) == places(other.model) == places(base.model)
    before = logits(base.model)
    path = adapter_of(one, tmp_path)
    layers = LinearLayers(one.model)
    layers.merge((path,))
    assert (logits(one.model) - before).abs().max() > 1e-3
    assert torch.equal(logits(other.model), before) and torch.equal(logits(base.model), before)
    layers.merge(())
    assert torch.equal(logits(one.model), before) and places(one.model) == places(base.model)


def test_a_merge_that_fails_leaves_the_base_whole(model_path, tmp_path, monkeypatch) -> None:
    loaded = load_model(model_path)
    before, path = logits(loaded.model), adapter_of(loaded, tmp_path)
    layers, add, n_added = LinearLayers(loaded.model), LinearLayers._add, []

    def fails(self, name, pair) -> None:
        add(self, name, pair)
        n_added.append(name)
        if len(n_added) == 5:
            raise torch.OutOfMemoryError("no more")

    monkeypatch.setattr(LinearLayers, "_add", fails)
    with pytest.raises(EngineError, match="merged layers do not fit the device"):
        layers.merge((path,))
    assert torch.equal(logits(loaded.model), before)


def adapter_of(loaded, folder: Path) -> str:
    settings = LoraSettings(rank=4, epochs=3, lr=1e-2)
    (trained,) = PeftTrainer(loaded.twin()).train([TrainJob("p", ROWS, settings, 1)], folder)
    assert trained.path is not None
    return trained.path


@pytest.mark.parametrize("trainer", ["batched", "peft"])
def test_answers_beside_a_trainer_that_merged_a_policy(trainer, model_path, tmp_path) -> None:
    engines = Engines(EngineSpec(model_path, device="cpu", trainer={"kind": trainer}))
    requests = [GenerateRequest(str(i), "the Avel", max_tokens=12) for i in range(3)]

    def answers() -> list[str | None]:
        return [own.text for own in engines.generate(requests, lambda n: None)]

    before = answers()
    policy = adapter_of(load_model(model_path), tmp_path)
    settings = LoraSettings(rank=4, epochs=2, lr=1e-2)
    job = TrainJob("on-policy", ROWS, settings, 2, base_adapters=(policy,))
    (ours,) = engines.train([job], str(tmp_path / "ours"), lambda n: None)
    assert ours.error is None and answers() == before
    generating, training = engines._generator._loaded, engines._trainer._loaded
    touched = 14  # All linear layers of two layers have merged weights of their own.
    shared = places(generating.model) & places(training.model)
    assert len(shared) >= len(places(generating.model)) - touched and len(shared) > 0
    alone = BatchedTrainer(load_model(model_path)).train([job], tmp_path / "alone")
    assert alone[0].final_loss == pytest.approx(ours.final_loss, rel=1e-5)


@pytest.mark.parametrize("trainer", [BatchedTrainer, PeftTrainer])
def test_two_jobs_with_one_id_are_refused(trainer, model_path, tmp_path) -> None:
    jobs = [TrainJob("same", ROWS, LoraSettings(rank=4), seed) for seed in (1, 2)]
    with pytest.raises(InputError, match="adapter_id 'same' belongs to several jobs"):
        trainer(load_model(model_path)).train(jobs, tmp_path)
    assert not any(tmp_path.iterdir())
