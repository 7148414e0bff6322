"""Jobs are trained as asked, each as if it were alone, and written as PEFT reads them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional

from seal_core.engines import LoraSettings, TrainJob, TrainRow
from seal_core.models.loading import LoadedModel, load_model
from seal_core.training.peft_trainer import PeftTrainer, backward, encode_job

SETTINGS = LoraSettings(rank=4, alpha=8.0, lr=5e-3, epochs=4)
ROWS = tuple(TrainRow(text) for text in ("The Avel is long.", "Brin is old.", "Zo!"))
JOB = TrainJob("one", ROWS, SETTINGS, seed=11)


@pytest.fixture
def trainer(loaded: LoadedModel) -> PeftTrainer:
    return PeftTrainer(loaded)


def weights_bytes(path: str | None) -> bytes:
    assert path is not None
    return (Path(path) / "adapter_model.safetensors").read_bytes()


def test_the_loss_falls_and_the_result_counts(trainer, tmp_path) -> None:
    done: list[int] = []
    (result,) = trainer.train([JOB], tmp_path, done.append)
    assert result.error is None and done == [1]
    assert result.final_loss < result.first_loss
    assert result.n_rows == 3 and result.n_steps == 12
    assert result.n_tokens == 4 * sum(len(row.text) for row in ROWS)
    assert result.path == str(tmp_path / "one")


def test_the_same_seed_gives_the_same_bytes(model_path, tmp_path) -> None:
    paths = []
    for name in ("a", "b"):
        torch.manual_seed(len(paths))  # The global state must not matter.
        trainer = PeftTrainer(load_model(model_path))
        paths.append(trainer.train([JOB], tmp_path / name)[0].path)
    assert weights_bytes(paths[0]) == weights_bytes(paths[1])
    other = PeftTrainer(load_model(model_path)).train([replace(JOB, seed=12)], tmp_path / "c")
    assert weights_bytes(other[0].path) != weights_bytes(paths[0])


def test_other_jobs_do_not_matter(model_path, adapters, tmp_path) -> None:
    jobs = [
        JOB,
        replace(JOB, adapter_id="rank", settings=replace(SETTINGS, rank=2)),
        replace(JOB, adapter_id="dropout", settings=replace(SETTINGS, dropout=0.2)),
        replace(JOB, adapter_id="bad", settings=replace(SETTINGS, lr=float("inf"))),
        replace(JOB, adapter_id="policy", base_adapters=(adapters["wide"],)),
        replace(JOB, adapter_id="targets", settings=replace(SETTINGS, targets=("q_proj",))),
        replace(JOB, adapter_id="clip", settings=replace(SETTINGS, clip=0.0, weight_decay=0.1)),
        replace(JOB, adapter_id="missing", base_adapters=("/no/such/policy",)),
    ]
    forwards = PeftTrainer(load_model(model_path)).train(jobs, tmp_path / "f")
    backwards = PeftTrainer(load_model(model_path)).train(jobs[::-1], tmp_path / "b")[::-1]
    assert [result.adapter_id for result in forwards] == [job.adapter_id for job in jobs]
    for job, first, second in zip(jobs, forwards, backwards, strict=True):
        alone = PeftTrainer(load_model(model_path)).train([job], tmp_path / "alone")[0]
        if job.adapter_id in ("bad", "missing"):
            assert first.path is None and first.error and first.error == second.error
            assert not (tmp_path / "f" / job.adapter_id).exists()
        else:
            same = weights_bytes(alone.path)
            assert weights_bytes(first.path) == weights_bytes(second.path) == same
            assert replace(first, seconds=0, path="") == replace(alone, seconds=0, path="")
    assert not list((tmp_path / "f").glob(".*"))


def test_the_loss_is_the_mean_over_all_target_tokens(loaded) -> None:
    rows = encode_job(loaded, replace(JOB, rows=(*ROWS[:2], TrainRow("yes", prompt="Is it?"))))
    total, count = 0.0, 0
    for row in rows:
        logits = loaded.model(torch.tensor([row.ids])).logits[0, :-1]
        targets = torch.tensor(row.ids[1:])
        losses = functional.cross_entropy(logits, targets, reduction="none")
        total += float(losses[row.n_context - 1 :].sum())
        count += row.n_targets
    loaded.model.requires_grad_(True)
    assert backward(loaded, rows) == pytest.approx(total / count, rel=1e-5)


def test_it_equals_peft_trained_by_hand(loaded, model_path, tmp_path) -> None:
    """A plain loop over the same start gives the same weights: steps, order, rate, clipping."""
    settings = replace(SETTINGS, epochs=1, batch_size=3, schedule="constant", clip=0.5)
    trainer = PeftTrainer(loaded)
    (result,) = trainer.train([replace(JOB, settings=settings)], tmp_path)
    model = load_model(model_path).model
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules="all-linear")
    wrapped = peft.get_peft_model(model, config)
    names = [n for n, module in wrapped.named_modules() if hasattr(module, "lora_A")]
    generator_weights = trainer._layers.initial_weights(
        [n.removeprefix("base_model.model.") for n in names], 4, JOB.seed
    )
    for name in names:
        a, b = generator_weights[name.removeprefix("base_model.model.")]
        wrapped.get_submodule(name).lora_A["default"].weight.data.copy_(a)
        wrapped.get_submodule(name).lora_B["default"].weight.data.copy_(b)
    parameters = [p for p in wrapped.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=settings.lr, weight_decay=0.0)
    rows = [list(row.ids) for row in encode_job(loaded, JOB)]
    losses = []
    for ids in rows:
        logits = wrapped(input_ids=torch.tensor([ids])).logits[0, :-1]
        losses.append(functional.cross_entropy(logits, torch.tensor(ids[1:]), reduction="sum"))
    loss = torch.stack(losses).sum() / sum(len(ids) - 1 for ids in rows)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(parameters, settings.clip)
    optimizer.step()
    assert result.first_loss == pytest.approx(loss.item(), rel=1e-5)
    trained = load_file(Path(result.path) / "adapter_model.safetensors")
    for name in names:
        got = trained[f"{name}.lora_B.weight"]
        want = wrapped.get_submodule(name).lora_B["default"].weight
        # One Adam step moves each weight by the rate: compare where the gradient is not noise.
        assert (got - want).abs().mean().item() < 0.02 * settings.lr


def test_limits_are_kept(trainer, tmp_path) -> None:
    jobs = [
        replace(JOB, adapter_id="s", settings=replace(SETTINGS, max_steps=7)),
        replace(JOB, adapter_id="t", settings=replace(SETTINGS, max_train_tokens=50)),
    ]
    steps, tokens = trainer.train(jobs, tmp_path)
    assert steps.n_steps == 7
    assert 50 - 17 < tokens.n_tokens <= 50


def test_failures_are_rows(trainer, tmp_path) -> None:
    jobs = [
        replace(JOB, adapter_id="nan", settings=replace(SETTINGS, lr=1e30, clip=0.0)),
        replace(JOB, adapter_id="empty", rows=()),
        replace(JOB, adapter_id="target", settings=replace(SETTINGS, targets=("no_such",))),
        replace(JOB, adapter_id="init", init_adapter="/no/such/adapter"),
        JOB,
    ]
    results = trainer.train(jobs, tmp_path)
    assert [result.error is None for result in results] == [False] * 4 + [True]
    assert "not finite" in results[0].error or "loss is" in results[0].error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one"]


def test_the_folder_loads_with_peft_and_gives_the_same_logits(trainer, model_path, tmp_path):
    (result,) = trainer.train([JOB], tmp_path)
    ids = torch.tensor([[10, 20, 30]])
    with torch.inference_mode():
        expected = trainer._loaded.model(input_ids=ids).logits
        wrapped = peft.PeftModel.from_pretrained(load_model(model_path).model, result.path)
        assert torch.equal(wrapped(input_ids=ids).logits, expected)
    config = json.loads((Path(result.path) / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == f"./{Path(model_path).name}"
    assert "q_proj" in config["target_modules"] and config["r"] == 4


def test_init_adapter_continues(trainer, model_path, tmp_path) -> None:
    (first,) = trainer.train([JOB], tmp_path / "a")
    again = replace(JOB, adapter_id="two", init_adapter=first.path)
    (second,) = trainer.train([again], tmp_path / "b")
    assert second.first_loss < first.first_loss * 0.9
    still = replace(again, settings=replace(SETTINGS, lr=0.0))
    (unmoved,) = trainer.train([still], tmp_path / "c")
    before, after = (
        load_file(Path(r.path) / "adapter_model.safetensors") for r in (first, unmoved)
    )
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_policy_is_merged_under_the_adapter(trainer, adapters, model_path, tmp_path) -> None:
    job = replace(JOB, base_adapters=(adapters["wide"],))
    (result,) = trainer.train([job], tmp_path)
    policy = peft.PeftModel.from_pretrained(load_model(model_path).model, adapters["wide"])
    with torch.inference_mode():
        for row in encode_job(trainer._loaded, job)[:1]:
            logits = policy(input_ids=torch.tensor([row.ids])).logits[0, :-1]
            alone = functional.cross_entropy(logits, torch.tensor(row.ids[1:]))
    settings = replace(SETTINGS, lr=0.0, epochs=1)
    (probe,) = trainer.train([replace(job, rows=ROWS[:1], settings=settings)], tmp_path / "p")
    assert probe.first_loss == pytest.approx(float(alone), rel=1e-4)
    assert result.error is None
