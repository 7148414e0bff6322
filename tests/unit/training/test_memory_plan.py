"""The number of adapters and tokens in training follows from the budget, and never from luck."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from seal_core.engines import LoraSettings, TrainJob, TrainRow
from seal_core.errors import EngineError, InputError
from seal_core.models.loading import load_model
from seal_core.training.batched_trainer import BatchedTrainer
from seal_core.training.memory_plan import (
    TokenBytes,
    adapter_bytes,
    check_room,
    default_budget,
    lora_token_bytes,
    model_bytes,
    plan_memory,
)
from seal_core.training.peft_trainer import PeftTrainer
from seal_core.training.slots.lora_slots import LoraSlots
from seal_core.training.ticks import TickRunner
from tests.unit.training.test_batched_trainer import different_jobs, distance

pytestmark = pytest.mark.usefixtures("product")

GB = 2**30


def test_adapter_bytes_by_hand() -> None:
    # Weights, gradient and two moments, each of (8 + 16 + 16 + 8) * 4 float32 numbers.
    assert adapter_bytes([(8, 16), (16, 8)], 4, torch.float32) == 4 * 48 * 4 * 4
    # A GPU's product keeps a copy of the weights besides.
    assert adapter_bytes([(8, 16), (16, 8)], 4, torch.float32, True) == 5 * 48 * 4 * 4


def test_what_a_token_keeps_for_adapters(model_path) -> None:
    # Two places for a token at most: inputs and inner products of both layers in float32.
    lora = lora_token_bytes([(8, 16), (16, 8)], 4, torch.float32, 2.0)
    assert lora == 2 * (8 + 4 + 16 + 4) * 4
    model = load_model(model_path).model
    bare, full = TokenBytes.of(model), TokenBytes.of(model, 1000)
    n_layers = model.config.num_hidden_layers
    assert full.kept == bare.kept + 1000
    assert full.checkpointed == bare.checkpointed + 1000 // n_layers


def test_a_server_keeps_its_share_of_the_gpu() -> None:
    check_room(15 * GB, 80 * GB, 0.0)
    check_room(15 * GB, 80 * GB, 0.8)
    with pytest.raises(InputError, match=r"take 15\.0 GiB.*= 0\.9 leaves 8\.0 GiB.*engine\.gpus"):
        check_room(15 * GB, 80 * GB, 0.9)


@pytest.mark.parametrize(
    ("free", "reserved", "held", "share", "sharers", "expected"),
    [
        (60, 0, 0, 0.0, 1, 60),
        (40, 30, 20, 0.0, 1, 50),  # What the allocator keeps is ours.
        (60, 20, 20, 0.5, 1, 20),  # The server does not run yet.
        (25, 20, 20, 0.5, 1, 20),
        (10, 20, 20, 0.5, 1, 10),
        (60, 20, 20, 0.0, 2, 20),
    ],
)
def test_the_budget_of_a_gpu(monkeypatch, free, reserved, held, share, sharers, expected) -> None:
    cuda = torch.cuda
    monkeypatch.setattr(cuda, "mem_get_info", lambda device: (free * GB, 80 * GB))
    monkeypatch.setattr(cuda, "memory_reserved", lambda device: reserved * GB)
    monkeypatch.setattr(cuda, "memory_allocated", lambda device: held * GB)
    found = default_budget(torch.device("cuda"), share, sharers)
    assert found == int(0.85 * expected * GB)
    monkeypatch.setattr(cuda, "memory_allocated", lambda device: 80 * GB)
    with pytest.raises(InputError, match=r"lower engine\.gpu_memory_utilization or"):
        default_budget(torch.device("cuda"), share, sharers)


def test_the_memory_of_a_model(model_path) -> None:
    model = load_model(model_path).model
    plain = model_bytes(model)
    assert plain == sum(t.nbytes for t in [*model.parameters(), *model.buffers()])
    weight = model.get_submodule("model.layers.0.self_attn.q_proj").weight
    assert model_bytes(model, ["model.layers.0.self_attn.q_proj"]) == plain + weight.nbytes


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        (100 * GB, (64, 8192, False)),  # Everything fits.
        (40 * GB, (28, 1228, False)),  # 70% of it for adapters.
        (2 * GB, (1, 4096, True)),
        (1 << 20, (1, 300, True)),  # Too little for anything: one adapter, its longest step.
    ],
)
def test_as_many_adapters_as_fit_then_tokens(budget, expected) -> None:
    token = TokenBytes(kept=10 << 20, checkpointed=256 << 10)
    plan = plan_memory(
        budget,
        one_adapter=GB,
        token=replace(token, kept=3 << 20) if budget == 100 * GB else token,
        n_jobs=100,
        longest_step=300,
        max_adapters=64,
        max_tokens=8192,
    )
    assert (plan.n_adapters, plan.n_tokens, plan.checkpoint) == expected


def test_a_plan_never_exceeds_its_budget_when_one_adapter_fits() -> None:
    token = TokenBytes(kept=1 << 20, checkpointed=1 << 17)
    for gib in range(2, 60):
        plan = plan_memory(gib * GB, GB, token, 50, 200, 64, 8192)
        per_token = token.checkpointed if plan.checkpoint else token.kept
        assert plan.n_adapters * GB + plan.n_tokens * per_token <= gib * GB


def test_checkpoints_change_rounding_only(model_path, adapters, tmp_path) -> None:
    jobs = different_jobs(adapters)
    jobs[0] = replace(jobs[0], settings=replace(jobs[0].settings, dropout=0.3))
    kept = BatchedTrainer(load_model(model_path), 64, memory_bytes=GB)
    again = BatchedTrainer(load_model(model_path), 64, memory_bytes=200_000)
    one, two = kept.train(jobs, tmp_path / "a"), again.train(jobs, tmp_path / "b")
    assert again._plan([again._prepare(0, jobs[0])], 4).checkpoint
    for first, second in zip(one, two, strict=True):
        assert distance(first, second) <= 1e-5
    assert not again._loaded.model.is_gradient_checkpointing
    assert not any(module.training for module in again._loaded.model.modules())


def test_a_tick_that_does_not_fit_is_halved_and_repeated(
    model_path, adapters, tmp_path, monkeypatch
) -> None:
    jobs = different_jobs(adapters)
    jobs.append(replace(jobs[0], adapter_id="d", settings=replace(jobs[0].settings, dropout=0.3)))
    expected = BatchedTrainer(load_model(model_path, dtype="float64")).train(jobs, tmp_path / "a")
    run, refused = TickRunner.run, []

    def small_device(self, shares):
        losses = run(self, shares)  # The dropout has been drawn when memory runs out.
        total = sum(len(row.ids) for share in shares for row in share.rows)
        if len(shares) > 1 and total > 100:
            refused.append(total)
            raise torch.OutOfMemoryError("no memory left")
        return losses

    monkeypatch.setattr(TickRunner, "run", _restoring(small_device))
    results = BatchedTrainer(load_model(model_path, dtype="float64")).train(jobs, tmp_path / "b")
    assert refused
    for one, other in zip(results, expected, strict=True):
        assert distance(one, other) <= 1e-10


def _restoring(run):
    """As `TickRunner.run` does itself when the error arises inside it."""

    def wrapped(self, shares):
        states = [share.generator.get_state() for share in shares]
        try:
            return run(self, shares)
        except torch.OutOfMemoryError:
            for share, state in zip(shares, states, strict=True):
                share.generator.set_state(state)
            raise

    return wrapped


def test_memory_that_runs_out_inside_the_model_leaves_no_trace(
    loaded, adapters, tmp_path, monkeypatch
) -> None:
    job = replace(
        different_jobs(adapters)[0],
        settings=LoraSettings(rank=4, dropout=0.4, epochs=2, targets=("q_proj",)),
    )
    (expected,) = BatchedTrainer(loaded).train([job], tmp_path / "a")
    norm, failures = loaded.model.model.norm, [True]
    forward = norm.forward

    def once(x):
        if failures:
            failures.pop()
            raise torch.OutOfMemoryError("no memory left")
        return forward(x)

    trainer = BatchedTrainer(loaded)
    monkeypatch.setattr(norm, "forward", once)
    (result,) = trainer.train([job], tmp_path / "b")
    assert not failures
    assert distance(result, expected) <= 1e-6


def test_a_step_that_fits_in_no_way_fails_its_job_alone(
    loaded, adapters, tmp_path, monkeypatch
) -> None:
    jobs = different_jobs(adapters)[:3]
    huge = replace(jobs[0], adapter_id="huge", rows=(TrainRow("x" * 100),))
    expected = BatchedTrainer(loaded).train(jobs, tmp_path / "a")
    run = TickRunner.run

    def small_device(self, shares):
        if any(len(row.ids) > 90 for share in shares for row in share.rows):
            raise torch.OutOfMemoryError("no memory left")
        return run(self, shares)

    monkeypatch.setattr(TickRunner, "run", small_device)
    results = BatchedTrainer(loaded).train([huge, *jobs], tmp_path / "b")
    assert results[0].path is None and "finetune.max_length" in (results[0].error or "")
    for one, other in zip(results[1:], expected, strict=True):
        assert distance(one, other) <= 1e-5


def test_fewer_adapters_are_tried_when_their_states_do_not_fit(
    loaded, adapters, tmp_path, monkeypatch
) -> None:
    jobs = different_jobs(adapters)
    expected = BatchedTrainer(loaded).train(jobs, tmp_path / "a")
    sizes, step = [], LoraSlots.step

    def little_memory(self, steps, losses):
        sizes.append(self.n_slots)
        if self.n_slots > limit:
            raise torch.OutOfMemoryError("no memory left")
        return step(self, steps, losses)

    monkeypatch.setattr(LoraSlots, "step", little_memory)
    limit = 2
    results = BatchedTrainer(loaded).train(jobs, tmp_path / "b")
    assert max(sizes) > 2
    for one, other in zip(results, expected, strict=True):
        assert distance(one, other) <= 1e-5
    limit = 0
    with pytest.raises(EngineError, match=r"one adapter of rank \d .* lower finetune\.rank"):
        BatchedTrainer(loaded).train(jobs, tmp_path / "c")


@pytest.mark.parametrize("pack", [False, True])
def test_padding_counts_among_the_tokens_of_a_tick(
    loaded, adapters, tmp_path, monkeypatch, pack
) -> None:
    jobs = [*different_jobs(adapters)[:3], *different_jobs(adapters)[4:]]
    run, ticks = TickRunner.run, []

    def counted(self, shares):
        rows = [len(row.ids) for share in shares for row in share.rows]
        ticks.append((len(shares), sum(rows) if pack else len(rows) * max(rows)))
        return run(self, shares)

    monkeypatch.setattr(TickRunner, "run", counted)
    results = BatchedTrainer(loaded, 160, pack=pack).train(jobs, tmp_path)
    assert all(result.error is None for result in results)
    assert max(n for n, _ in ticks) > 1
    assert all(tokens <= 160 for n, tokens in ticks if n > 1)


def test_the_published_behaviour_equals_the_plain_loop(model_path, tmp_path) -> None:
    settings = LoraSettings(
        rank=4, epochs=2, targets=("q_proj", "v_proj"), max_length=40, pad_to_max_length=True
    )
    rows = (TrainRow("Zo sings."), TrainRow("Avel is past the river, they say."))
    jobs = [TrainJob(f"p-{i}", rows[: i + 1], settings, seed=i) for i in range(2)]
    jobs.append(
        replace(jobs[0], adapter_id="x", settings=replace(settings, pad_to_max_length=False))
    )
    alone = PeftTrainer(load_model(model_path, dtype="float64")).train(jobs, tmp_path / "a")
    together = BatchedTrainer(load_model(model_path, dtype="float64")).train(jobs, tmp_path / "b")
    for one, other in zip(together, alone, strict=True):
        assert distance(one, other) <= 1e-10 and one.n_tokens == other.n_tokens
    assert together[0].n_tokens == 2 * 39 and together[2].n_tokens < 2 * 39
    assert distance(together[0], together[2]) > 1e-3
