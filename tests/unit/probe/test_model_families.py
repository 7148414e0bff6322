"""Models of other kinds than plain dense decoders answer and train as in the plain libraries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import pytest
import torch

from seal_core.engines import GenerateRequest, LoraSettings, TrainJob
from seal_core.generation.plain_generator import PlainGenerator
from seal_core.generation.transformers_generator import TransformersGenerator
from seal_core.models.loading import LoadedModel, load_model
from seal_core.models.lora_layers import LinearLayers
from seal_core.probe.model_check import check_model
from seal_core.training.batched_trainer import BatchedTrainer
from seal_core.training.checkpoints import can_checkpoint, set_checkpoints
from seal_core.training.memory_plan import TokenBytes
from seal_core.training.peft_trainer import PeftTrainer
from seal_core.training.policy_sft import update_policy
from seal_core.training.slots.lora_slots import LoraSlots
from seal_core.types import TrainRow
from tests.families import save_family
from tests.unit.training.test_batched_trainer import distance

PROMPTS = ("ab", "a longer prompt", "middle")


@pytest.fixture
def save(tmp_path):
    def save(kind: str) -> str:
        return str(save_family(tmp_path / kind, kind))

    return save


def save_adapter(folder: Path, model_path: str, seed: int) -> str:
    model = load_model(model_path).model
    targets = LinearLayers(model).resolve(("all-linear",))
    wrapped = peft.get_peft_model(model, peft.LoraConfig(r=4, target_modules=targets))
    generator = torch.Generator().manual_seed(seed)
    for name, weight in wrapped.named_parameters():
        if "lora_" in name:
            weight.data = torch.randn(weight.shape, generator=generator) * 0.3
    wrapped.save_pretrained(folder)
    return str(folder)


def by_hand(model_path: str, prompt: str, adapter: str | None, n: int) -> str:
    """What plain transformers and PEFT answer to one prompt."""
    loaded = load_model(model_path)
    model = loaded.model
    if adapter is not None:
        model = peft.PeftModel.from_pretrained(model, adapter).eval()
    ids = torch.tensor([loaded.tokenizer(prompt)["input_ids"]])
    mask = torch.ones_like(ids)
    out = model.generate(
        input_ids=ids, attention_mask=mask, do_sample=False, max_new_tokens=n, pad_token_id=256
    )
    return loaded.tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)


@pytest.mark.parametrize("kind", ["gpt2", "experts", "recurrent", "hybrid"])
def test_answers_are_those_of_generate_and_peft(save, tmp_path, kind) -> None:
    path = save(kind)
    adapters = [None, *(save_adapter(tmp_path / f"a{i}", path, i) for i in (1, 2))]
    cases = [(p, a, 4 + 5 * i) for i, p in enumerate(PROMPTS) for a in adapters]
    requests = [
        GenerateRequest(str(i), prompt, () if adapter is None else (adapter,), n)
        for i, (prompt, adapter, n) in enumerate(cases)
    ]
    loaded = load_model(path)
    verdict = check_model(loaded)
    assert verdict.refused is None
    generators = {"batched": TransformersGenerator, "plain": PlainGenerator}
    generator = generators[verdict.generator](loaded)
    texts = [result.text for result in generator.generate(requests)]
    assert texts == [by_hand(path, *case) for case in cases]
    assert len(set(texts)) > len(PROMPTS)  # The adapters change answers.


@pytest.mark.parametrize(
    # The experts' grouped product is not there in double precision.
    ("kind", "dtype", "rel"),
    [
        ("gpt2", "float64", 1e-9),
        ("experts", "float32", 1e-4),
        ("recurrent", "float32", 1e-4),
        ("hybrid", "float32", 1e-4),
    ],
)
def test_both_trainers_agree(save, tmp_path, kind, dtype, rel) -> None:
    path = save(kind)
    settings = LoraSettings(rank=4, alpha=8.0, lr=1e-2, epochs=2, batch_size=2)
    rows = tuple(TrainRow(text) for text in ("a short row", "another row that is longer", "x y"))
    jobs = [TrainJob(f"job-{i}", rows[: i + 1], settings, i) for i in (1, 2)]
    loaded = load_model(path, dtype=dtype)
    layout = check_model(loaded).trainer
    assert layout in ("packed", "padded")
    fast = BatchedTrainer(loaded, pack=layout == "packed").train(jobs, tmp_path / "fast")
    plain = PeftTrainer(load_model(path, dtype=dtype)).train(jobs, tmp_path / "plain")
    for one, other in zip(fast, plain, strict=True):
        assert one.error is None and other.error is None
        assert one.final_loss == pytest.approx(other.final_loss, rel=rel)
        assert distance(one, other) <= rel


def test_filled_rows_are_trained_as_the_plain_way_trains_them(save, tmp_path) -> None:
    """Padding moves OPT's positions, which packed rows would not know of."""
    path = save("dropout")
    settings = LoraSettings(
        rank=4, lr=1e-2, epochs=2, targets=("q_proj",), max_length=40, pad_to_max_length=True
    )
    rows = (TrainRow("a short row"), TrainRow("another row that is longer"))
    jobs = [TrainJob(f"job-{i}", rows[: i + 1], settings, i) for i in (0, 1)]
    loaded = load_model(path, dtype="float64")
    assert check_model(loaded, settings.targets).trainer == "packed"
    assert check_model(loaded, settings.targets, fill=True).trainer == "padded"
    fast = BatchedTrainer(loaded).train(jobs, tmp_path / "fast")
    plain = PeftTrainer(load_model(path, dtype="float64")).train(jobs, tmp_path / "plain")
    for one, other in zip(fast, plain, strict=True):
        assert one.first_loss == pytest.approx(other.first_loss, rel=1e-9)
        assert distance(one, other) <= 1e-9


def test_padding_that_is_seen_is_found_out(save) -> None:
    """Only filled rows have a mask, which a model may heed otherwise in a batch."""
    loaded = load_model(save("untied"))
    forward = loaded.model.forward

    def swayed(*args: Any, attention_mask: Any = None, **options: Any) -> Any:
        out = forward(*args, attention_mask=attention_mask, **options)
        if attention_mask is not None and attention_mask.shape[0] > 1:
            out.logits = out.logits * 1.5
        return out

    loaded.model.forward = swayed
    assert check_model(loaded).trainer != "plain"
    assert check_model(loaded, fill=True).trainer == "plain"


@pytest.mark.parametrize(("kind", "target"), [("untied", "lm_head"), ("bert", "all-linear")])
def test_a_head_is_trained_whatever_stands_before_its_targets(save, tmp_path, kind, target) -> None:
    path = save(kind)
    settings = LoraSettings(rank=4, lr=1e-2, epochs=2, targets=(target,), batch_size=2)
    rows = tuple(TrainRow(text, prompt="Who? ") for text in ("he", "she and he", "nobody"))
    jobs = [TrainJob(f"job-{i}", rows[: i + 1], settings, i) for i in (1, 2)]
    loaded = load_model(path, dtype="float64")
    assert check_model(loaded, (target,)).trainer == "padded"
    fast = BatchedTrainer(loaded, pack=False).train(jobs, tmp_path / "fast")
    plain = PeftTrainer(load_model(path, dtype="float64")).train(jobs, tmp_path / "plain")
    for one, other in zip(fast, plain, strict=True):
        assert distance(one, other) <= 1e-9


def test_a_model_without_checkpoints_is_trained_without(save, tmp_path) -> None:
    path = save("no checkpoints")
    settings = LoraSettings(rank=4, epochs=2)
    jobs = [TrainJob(f"job-{i}", (TrainRow("a row"),), settings, i) for i in (1, 2)]
    loaded = load_model(path)
    token = TokenBytes.of(loaded.model)
    assert token.checkpointed == token.kept
    layout = check_model(loaded).trainer
    little = BatchedTrainer(loaded, memory_bytes=100_000, pack=layout == "packed")
    assert little._plan([little._prepare(0, jobs[0])], 4).checkpoint
    fast = little.train(jobs, tmp_path / "fast")
    plain = PeftTrainer(load_model(path)).train(jobs, tmp_path / "plain")
    assert all(distance(one, two) <= 1e-4 for one, two in zip(fast, plain, strict=True))


@pytest.mark.parametrize(("kind", "on"), [("no checkpoints", False), ("gpt2", True)])
def test_the_policys_update_on_a_gpu_uses_checkpoints_where_there_are_some(save, kind, on) -> None:
    loaded = load_model(save(kind))
    set_checkpoints(loaded.model, True)
    assert loaded.model.is_gradient_checkpointing == can_checkpoint(loaded.model) == on


def test_all_linear_of_a_recurrent_model_leaves_out_what_peft_bars(save) -> None:
    names = LinearLayers(load_model(save("recurrent")).model).resolve(("all-linear",))
    assert {name.rpartition(".")[2] for name in names} == {"in_proj"}


def test_the_policys_update_is_without_the_models_own_dropout(save, tmp_path) -> None:
    path, losses = save("dropout"), []
    for seed in (1, 2):
        result = update_policy(
            load_model(path),
            [TrainRow("the answer", prompt="a question")],
            LoraSettings(rank=2, alpha=4.0, epochs=1, lr=1e-3),
            seed,
            tmp_path / f"policy-{seed}",
        )
        losses.append(result.first_loss)
    # B starts at zero: the first loss is the frozen model's, whatever the seed.
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_a_bank_that_does_not_fit_leaves_the_model_whole(loaded: LoadedModel, monkeypatch) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("no room")

    modules = LinearLayers(loaded.model).resolve(("all-linear",))
    before = dict(loaded.model.named_modules())
    with monkeypatch.context() as patch:
        patch.setattr("seal_core.training.slots.lora_slots.torch.zeros", full)
        with pytest.raises(torch.OutOfMemoryError):
            LoraSlots(loaded.model, modules, 4, 2, torch.float32)
    assert dict(loaded.model.named_modules()) == before
    slots = LoraSlots(loaded.model, modules, 4, 1, torch.float32)
    assert dict(loaded.model.named_modules()) != before
    slots.remove()
    assert dict(loaded.model.named_modules()) == before


def test_a_token_that_the_model_lacks_fails_its_unit_alone(loaded: LoadedModel, tmp_path) -> None:
    loaded.tokenizer.add_tokens(["<new>"])
    named = f"token {loaded.tokenizer.convert_tokens_to_ids('<new>')} ('<new>') is beyond"
    requests = [GenerateRequest("good", "abc"), GenerateRequest("bad", "a <new>")]
    good, bad = TransformersGenerator(loaded).generate(requests)
    assert good.error is None and good.text is not None
    assert bad.text is None and named in (bad.error or "")
    jobs = [
        TrainJob(name, (TrainRow(text),), LoraSettings(rank=2, epochs=1), 0)
        for name, text in (("good", "abc"), ("bad", "a <new>"))
    ]
    good, bad = PeftTrainer(loaded).train(jobs, tmp_path)
    assert good.error is None and bad.path is None
    assert named in (bad.error or "")
