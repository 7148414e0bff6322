"""Training on a CUDA device is PEFT's, adapter by adapter; `make test-gpu` runs what needs one.

1. In float64, adapters trained together are those of the PEFT loop on the same device.
2. An adapter that turns NaN changes no bit of the others.
3. Memory that runs out, of the bank or of a tick, leaves the results as they are.
4. A sound model in bfloat16 passes the model check and is trained packed.
5. An engine process answers, trains and answers with what it trained.
6. A pass and its steps wait for nothing: the host runs ahead of the device.
7. In bfloat16 the products, which may use tensor cores, are as exact as the model's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from seal_core.engines import GenerateRequest, LoraSettings, TrainJob
from seal_core.models.loading import load_model
from seal_core.models.lora_layers import LinearLayers
from seal_core.models.text.tokens import EncodedRow
from seal_core.probe.model_check import check_model
from seal_core.process.pool import EnginePool, PooledGenerator, PooledTrainer
from seal_core.process.spec import EngineSpec
from seal_core.training.batched_trainer import BatchedTrainer
from seal_core.training.peft_trainer import PeftTrainer
from seal_core.training.slots.lora_slots import LoraSlots
from seal_core.training.slots.slot_step import SlotStep
from seal_core.training.ticks import Share, TickRunner
from tests.models import save_qwen2
from tests.unit.training.test_batched_trainer import (
    different_jobs,
    distance,
    poisoned,
    rows,
    weights,
)
from tests.unit.training.test_lora_products import Model, products

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("max_batch_tokens", [64, 4096])
def test_many_at_once_equal_peft_alone(model_path, adapters, tmp_path, max_batch_tokens) -> None:
    """1"""
    jobs = different_jobs(adapters)
    loaded = load_model(model_path, device="cuda", dtype="float64")
    alone = PeftTrainer(loaded).train(jobs, tmp_path / "peft")
    loaded = load_model(model_path, device="cuda", dtype="float64")
    together = BatchedTrainer(loaded, max_batch_tokens, 3).train(jobs, tmp_path / "batched")
    for one, other in zip(together, alone, strict=True):
        assert distance(one, other) <= 1e-10
        assert one.final_loss == pytest.approx(other.final_loss, rel=1e-9)


def test_a_broken_adapter_changes_no_bit_of_the_others(model_path, adapters, tmp_path) -> None:
    """2"""
    jobs, loaded = different_jobs(adapters), load_model(model_path, device="cuda")
    healthy = BatchedTrainer(loaded).train(poisoned(jobs, 3, 1e-3), tmp_path / "a")
    broken = BatchedTrainer(loaded).train(poisoned(jobs, 3, 1e30), tmp_path / "b")
    assert broken[3].path is None and "step" in (broken[3].error or "")
    for place in (0, 1, 2, 4, 5):
        ours, theirs = weights(broken[place]), weights(healthy[place])
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.fixture
def little_memory() -> Iterator[None]:
    """As on a card that other processes have nearly filled."""
    free, total = torch.cuda.mem_get_info()
    taken = torch.cuda.memory_reserved()
    torch.cuda.set_per_process_memory_fraction((taken + (1 << 28)) / total)
    yield
    torch.cuda.set_per_process_memory_fraction(min(1.0, (free + taken) / total))


def test_memory_that_runs_out(tmp_path, little_memory) -> None:
    """3"""
    path = str(save_qwen2(tmp_path / "model"))
    settings = LoraSettings(rank=64, epochs=1, lr=1e-3)
    jobs = [TrainJob(f"job-{i}", rows(i, 3), settings, seed=i) for i in range(12)]
    loaded = load_model(path, device="cuda")
    few = BatchedTrainer(loaded, 64, 2).train(jobs, tmp_path / "few")
    # A budget that is a lie: what it promises is not there.
    many = BatchedTrainer(loaded, 1 << 20, 4096, memory_bytes=1 << 40).train(
        [replace(job, adapter_id=f"{job.adapter_id}-{i}") for i in range(64) for job in jobs],
        tmp_path / "many",
    )
    for place, one in enumerate(many[: len(jobs)]):
        assert one.error is None and distance(one, few[place]) <= 1e-4


def test_a_sound_model_in_bfloat16_is_trained_packed(model_path) -> None:
    """4"""
    verdict = check_model(load_model(model_path, device="cuda", dtype="bfloat16"))
    assert (verdict.refused, verdict.generator, verdict.trainer) == (None, "batched", "packed")


def test_a_pass_waits_for_nothing(model_path) -> None:
    """6"""
    loaded = load_model(model_path, device="cuda", dtype="bfloat16")
    layers = LinearLayers(loaded.model)
    modules = layers.resolve(["all-linear"])
    slots = LoraSlots(loaded.model, modules, 4, 3, torch.float32)
    for slot in range(3):
        slots.write(slot, layers.initial_weights(modules, 4, slot))
    steps = [SlotStep(slot, 1e-3 / (1 + slot), 1.0) for slot in range(3)]
    encoded = [EncodedRow(tuple(range(5, 12 + slot)), 1) for slot in range(3)]
    shares = [
        Share(slot, [row], row.n_targets, 2.0, 0.0, torch.Generator())
        for slot, row in enumerate(encoded)
    ]
    with TickRunner(loaded, slots, checkpoint=False) as ticks:
        slots.step(steps, ticks.run(shares))  # What is made once may wait.
        torch.cuda.set_sync_debug_mode("error")
        try:
            found = slots.step(steps, ticks.run(shares))
        finally:
            torch.cuda.set_sync_debug_mode("default")
    slots.remove()
    assert found.isfinite().all()


def test_products_in_bfloat16(monkeypatch) -> None:
    """7"""
    monkeypatch.setattr(Model, "device", torch.device("cuda"))
    exact, _, _ = products(False, torch.float64, device="cuda")
    rounded, _, _ = products(True, torch.bfloat16, device="cuda")
    for ours, theirs in zip(rounded, exact, strict=True):
        assert (ours.double() - theirs).norm() <= 0.02 * theirs.norm()


def test_an_engine_process(model_path, tmp_path: Path) -> None:
    """5"""
    spec = EngineSpec(model_path, device="cuda", dtype="bfloat16")
    with EnginePool(1, spec, tmp_path / "log") as pool:
        assert pool.call("open", {})["device"] != "cpu"
        job = TrainJob("one", rows(1, 3), LoraSettings(rank=4, epochs=2), seed=1)
        (trained,) = PooledTrainer(pool).train([job], tmp_path)
        assert trained.error is None and trained.path is not None
        request = GenerateRequest("r", "the Avel", (trained.path,), max_tokens=5)
        (answer,) = PooledGenerator(pool).generate([request])
        assert answer.error is None and answer.n_tokens == 5
