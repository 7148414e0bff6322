"""A batch that leaves something out is found, in half precision and whatever the logits share."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers import PhiConfig, PhiForCausalLM

from seal_core.generation.kv_cache import joined
from seal_core.generation.lora_bank import LoraBank
from seal_core.minilm import weights_path
from seal_core.models.loading import LoadedModel, load_model
from seal_core.models.lora_layers import LinearLayers
from seal_core.models.rounding import logits_error, missing_share, spread
from seal_core.probe import model_check
from seal_core.probe.model_check import check_model
from seal_core.training.slots.lora_slots import LoraSlots
from tests.models import save_qwen2
from tests.unit.conftest import save_tokenizer
from tests.zoo.recipe import build

KINDS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@pytest.fixture(scope="module")
def half() -> LoadedModel:
    return load_model(str(weights_path()), dtype="bfloat16")


@pytest.fixture
def alone(monkeypatch) -> None:
    """No memory to try a model in single precision as well."""
    monkeypatch.setattr(model_check, "fits_in_float32", lambda model: False)


def leave_out(monkeypatch, kinds: tuple[str, ...]) -> None:
    """A bank that forgets the adapters on some kinds of layers."""
    read = LoraBank._read

    def forgetful(self, paths):
        stack = read(self, paths)
        down = {n: t for n, t in stack.down.items() if not n.endswith(kinds)}
        return replace(stack, down=down, up={n: stack.up[n] for n in down})

    monkeypatch.setattr(LoraBank, "_read", forgetful)


def faults(loaded: LoadedModel) -> set[str]:
    found = check_model(loaded).comparisons
    return {one.name.removesuffix(", in float32") for one in found if one.fault}


def test_a_sound_model_is_fast_in_half_precision(half, alone) -> None:
    verdict = check_model(half)
    assert verdict.is_fast and verdict.trainer == "packed"
    # Nothing is near its limit.
    assert all((found.error or 0.0) < found.limit / 3 for found in verdict.comparisons)


def test_what_single_precision_shows_counts(half) -> None:
    before = {name: tensor.clone() for name, tensor in half.model.state_dict().items()}
    verdict = check_model(half)
    names = [found.name for found in verdict.comparisons]
    assert verdict.is_fast and verdict.trainer == "packed"
    assert "answers of a batch, in float32" in names and "answers of a batch" in names
    after = half.model.state_dict()
    assert half.model.dtype == half.model.config.dtype == torch.bfloat16
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_a_merge_that_does_nothing_is_refused(half, monkeypatch) -> None:
    monkeypatch.setattr(LinearLayers, "_add", lambda *_: None)
    assert "an adapter merged into its weights" in (check_model(half).refused or "")


@pytest.mark.parametrize(("kind", "answers"), [("recurrent_gemma", "plain"), ("phimoe", "batched")])
def test_rounding_neither_hides_a_fault_nor_makes_one(tmp_path, kind, answers) -> None:
    build(kind, tmp_path)
    for dtype in ("float32", "bfloat16", "float16"):
        verdict = check_model(load_model(str(tmp_path), dtype=dtype))
        assert (verdict.refused, verdict.generator) == (None, answers)


@pytest.mark.parametrize("scale", [0.0, 100.0, 300.0])
def test_logits_that_are_all_equal_or_leave_no_choice(tmp_path, scale) -> None:
    loaded = load_model(str(save_qwen2(tmp_path)))
    loaded.model.get_output_embeddings().weight.data.mul_(scale)
    assert check_model(loaded).refused is None


@pytest.mark.parametrize("kind", KINDS)
def test_adapters_left_out_of_one_kind_of_layer(half, alone, monkeypatch, kind) -> None:
    leave_out(monkeypatch, (kind,))
    assert faults(half) & {"answers of a batch", "adapters of a batch, layer by layer"}


def test_adapters_left_out_of_one_layer(half, alone, monkeypatch) -> None:
    leave_out(monkeypatch, ("layers.1.self_attn.q_proj",))
    assert "adapters of a batch, layer by layer" in faults(half)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_left_out_of_one_kind_of_layer(half, alone, monkeypatch, kind) -> None:
    begin = LoraSlots.begin

    def forgetful(self, tick):
        begin(self, tick)
        for name, layer in self._layers.items():
            if name.endswith(kind):
                layer.tick = None

    monkeypatch.setattr(LoraSlots, "begin", forgetful)
    assert check_model(half).trainer == "plain"


@pytest.mark.parametrize("offset", [0.0, -30.0, -100.0])
def test_what_all_logits_share_hides_nothing(tmp_path, alone, monkeypatch, offset) -> None:
    torch.manual_seed(0)
    config = PhiConfig(
        vocab_size=257,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        eos_token_id=256,
        bos_token_id=256,
        initializer_range=0.2,
    )
    model = PhiForCausalLM(config)
    torch.nn.init.constant_(model.lm_head.bias, offset)
    model.to(torch.bfloat16).save_pretrained(str(tmp_path))
    save_tokenizer(tmp_path)
    loaded = load_model(str(tmp_path), dtype="bfloat16")
    assert check_model(loaded).generator == "batched"
    leave_out(monkeypatch, ("proj", "dense", "fc1", "fc2"))
    assert "answers of a batch" in faults(loaded)


def test_prompts_that_are_read_in_parts_are_tried(half, monkeypatch) -> None:
    n_parts = []

    def watched(parts, rows, length):
        n_parts.append(len(parts))
        return joined(parts, rows, length)

    monkeypatch.setattr("seal_core.generation.prefill.joined", watched)
    assert check_model(half).is_fast
    assert n_parts == [2, 2]  # In single precision, and in its own.


def test_logits_are_compared_as_far_as_probabilities_depend_on_them() -> None:
    expected = torch.tensor([[0.0, 1.0, 2.0, -1e4]])
    # 1 and -1 around the mean, and a difference of .1 at one of three.
    found = expected + torch.tensor([[50.0, 50.0, 50.1, 0.0]])
    assert logits_error(found, expected) == pytest.approx(
        (0.1**2 * 2 / 3) ** 0.5 / 2**0.5, rel=1e-4
    )
    assert spread(expected) == pytest.approx((2 / 3) ** 0.5)
    # A token that was out of the question is so no more.
    assert logits_error(torch.tensor([[0.0, 1.0, 2.0, 2.0]]), expected) > 1
    assert logits_error(expected * torch.nan, expected) == float("inf")
    assert logits_error(expected[:, :2], expected) == float("inf")


def test_what_is_missing_shows_through_noise() -> None:
    expected, noise = torch.tensor([3.0, 4.0]), torch.tensor([-4.0, 3.0])
    assert missing_share(expected + noise, expected) == pytest.approx(0.0, abs=1e-12)
    assert missing_share(noise, expected) == pytest.approx(1.0)
    assert missing_share(expected / 2, expected) == pytest.approx(0.5)
    assert missing_share(expected / 2, expected, floor=10.0) == pytest.approx(0.125)
    assert missing_share(expected * torch.nan, expected) == float("inf")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_damaged_weights_are_named(tmp_path, value, dtype) -> None:
    loaded = load_model(str(save_qwen2(tmp_path)), dtype=dtype)
    name = "model.layers.1.self_attn.q_proj.weight"
    loaded.model.get_parameter(name).data[0, 0] = value
    refused = check_model(loaded).refused
    assert refused is not None
    assert refused.startswith(f"its weights hold NaN or infinite numbers ({name}): they are")
