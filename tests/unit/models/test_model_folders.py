"""A folder that holds no causal language model is refused in one line that says what it holds."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    CLIPVisionConfig,
    Gemma3Config,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForSequenceClassification,
    T5Config,
    T5ForConditionalGeneration,
)

from seal_core.errors import InputError, in_one_line
from seal_core.models.loading import load_model
from seal_core.models.lora_layers import LinearLayers
from seal_core.models.text.tokenizers import load_tokenizer, saved_end_tokens
from seal_core.probe.model_check import check_model
from tests.models import byte_tokenizer, save_qwen2

SIZES = {
    "vocab_size": 257,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
}


def t5() -> PreTrainedModel:
    return T5ForConditionalGeneration(
        T5Config(vocab_size=257, d_model=32, d_kv=8, d_ff=48, num_layers=1, num_heads=4)
    )


def llava() -> PreTrainedModel:
    eye = {key: value for key, value in SIZES.items() if key != "vocab_size"}
    vision = CLIPVisionConfig(**eye, image_size=28, patch_size=14)
    return LlavaForConditionalGeneration(
        LlavaConfig(text_config=LlamaConfig(**SIZES), vision_config=vision, image_token_index=200)
    )


def classifier() -> PreTrainedModel:
    return Qwen2ForSequenceClassification(Qwen2Config(**SIZES, num_key_value_heads=2))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (t5, "is a t5, for which transformers .* has no causal language model"),
        (llava, "is a llava, for which transformers .* has no causal language model"),
        (classifier, r"lack lm_head.weight: they are .* not trained to continue texts"),
    ],
)
def test_another_kind_of_model(tmp_path: Path, make, reason: str) -> None:
    make().save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    refused(tmp_path, reason)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model_type": "weird"}, "is of type 'weird', which transformers .* does not know"),
        ({"model_type": None}, "is of type None, which transformers .* does not know"),
        (
            {"model_type": "weird", "auto_map": {"AutoModelForCausalLM": "modeling_weird.Weird"}},
            r"brings code of its own \(auto_map in its config.json\), which is never run",
        ),
    ],
)
def test_a_type_that_the_library_does_not_know(tmp_path: Path, changes, reason: str) -> None:
    config = save_qwen2(tmp_path) / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **changes}))
    refused(tmp_path, reason)


def test_a_known_type_with_code_of_its_own_is_the_librarys(tmp_path: Path) -> None:
    config = save_qwen2(tmp_path) / "config.json"
    code = {"auto_map": {"AutoModelForCausalLM": "modeling_qwen2.Other"}}
    config.write_text(json.dumps({**json.loads(config.read_text()), **code}))
    (tmp_path / "modeling_qwen2.py").write_text("raise SystemExit('run')")
    assert type(load_model(str(tmp_path)).model).__module__.startswith("transformers.")


DAMAGED = "its weights hold NaN or infinite numbers (model.layers.0.mlp.up_proj.weight): they are"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers(tmp_path: Path, value: float) -> None:
    file = save_qwen2(tmp_path) / "model.safetensors"
    weights = load_file(file)
    weights["model.layers.0.mlp.up_proj.weight"][0, 0] = value
    save_file(weights, file, metadata={"format": "pt"})
    found = check_model(load_model(str(tmp_path)), ("all-linear",))
    assert found.refused is not None and found.refused.startswith(DAMAGED)


def test_weights_that_overflow_in_half_precision(tmp_path: Path) -> None:
    file = save_qwen2(tmp_path) / "model.safetensors"
    weights = load_file(file)
    weights["model.layers.0.mlp.up_proj.weight"].mul_(1e5)
    save_file(weights, file, metadata={"format": "pt"})
    assert check_model(load_model(str(tmp_path)), ("all-linear",)).refused is None
    half = load_model(str(tmp_path), dtype="float16")
    assert half.model.dtype == torch.float16
    found = check_model(half, ("all-linear",))
    assert found.refused is not None and found.refused.startswith(DAMAGED)


def test_a_librarys_words_fit_a_screen() -> None:
    assert in_one_line(ValueError("a\n  b\n")) == "a b"
    assert len(in_one_line(ValueError("x " * 5000))) < 410


INDEX = "model.safetensors.index.json"
UNTAGGED = {"added_tokens": [], "model": {"type": "Other", "vocab": {}}}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("config.json", "[" * 100_000),
        (INDEX, '{"metadata": {}, "weight_map": {"a": ["x"]}}'),
        (INDEX, '{"metadata": {}, "weight_map": {"a": 1}}'),
        (INDEX, '{"metadata": {}, "weight_map": {}}'),
        (INDEX, '{"weight_map": {"lm_head.weight": "model.safetensors"}}'),
        (INDEX, "[]"),
        ("tokenizer_config.json", "[]"),
        ("tokenizer_config.json", "null"),
        ("tokenizer_config.json", '{"eos_token": 3}'),
        ("tokenizer.json", "[]"),
        ("tokenizer.json", "null"),
        ("tokenizer.json", json.dumps(UNTAGGED)),
        ("special_tokens_map.json", "null"),
        ("added_tokens.json", "[1]"),
        ("generation_config.json", "[]"),
        ("generation_config.json", "{"),
        ("generation_config.json", '{"max_new_tokens": -1}'),
        ("generation_config.json", '{"watermarking_config": {"a": 1}}'),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, name: str, text: str) -> None:
    (save_qwen2(tmp_path) / name).write_text(text)
    if name == INDEX:
        (tmp_path / "model.safetensors").unlink()
    refused(tmp_path, re.escape(name))


@pytest.mark.parametrize("name", ["chat_template.jinja", "additional_chat_templates/tools.jinja"])
def test_a_template_that_is_not_utf8_is_named(tmp_path: Path, name: str) -> None:
    file = save_qwen2(tmp_path) / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes("{{ 'é' }}".encode("latin-1"))
    refused(tmp_path, f"the tokenizer of .*: its {name} is not UTF-8; save that file as UTF-8")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"hidden_size": "32"}, r"config\.json .*'hidden_size' expected int, got str"),
        ({"layer_types": ["full_attention"]}, r"config\.json .*`num_hidden_layers` \(2\) must"),
        ({"attn_implementation": "flash_attention_2"}, "FlashAttention2 .*; install what it names"),
        ({"pad_token_id": 300}, r"AssertionError: Padding_idx .*config\.json"),
        ({"dtype": "fp16"}, r"config\.json .*no attribute 'fp16'"),
        ({"num_attention_heads": 0}, r"ZeroDivisionError: .*config\.json"),
        ({"rope_parameters": None, "rope_theta": None}, r"'NoneType' and 'Tensor'; .*config\.json"),
        ({"hidden_act": "swiglu"}, "has hidden_act = 'swiglu', which transformers .* not know"),
        (
            {"rope_parameters": {"rope_type": "su", "rope_theta": 1e4}},
            "has rope_type = 'su', which transformers .* does not know; correct it",
        ),
        (
            {"intermediate_size": 64},
            r"layers\.0\.mlp\.down_proj\.weight is \[32, 48\], and \[32, 64\] by the config",
        ),
        ({"model_type": ["qwen2"]}, r"is of type \['qwen2'\], which transformers"),
    ],
)
def test_an_odd_config_is_one_line(tmp_path: Path, changes, reason: str) -> None:
    config = save_qwen2(tmp_path) / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **changes}))
    refused(tmp_path, reason)


@pytest.mark.parametrize("ids", ["256", [[256]], 999, [256, 257], -1, True])
def test_an_end_token_that_the_model_lacks(tmp_path: Path, ids) -> None:
    (save_qwen2(tmp_path) / "generation_config.json").write_text(json.dumps({"eos_token_id": ids}))
    refused(tmp_path, rf"eos_token_id = {re.escape(repr(ids))} .*none of the model's 257 tokens")
    with pytest.raises(InputError, match="none of the model's 257 tokens"):
        saved_end_tokens(load_tokenizer(str(tmp_path)), str(tmp_path))


def test_an_end_token_of_another_models_tokenizer(tmp_path: Path) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"eos_token": "<|other|>"})
    save_qwen2(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    refused(tmp_path, r"ends texts with token 257 \('<\|other\|>'\), beyond the model's 257 tokens")


@pytest.mark.parametrize(
    "name", ["tokenizer.model", "sentencepiece.bpe.model", "spiece.model", "vocab.txt"]
)
def test_a_tokenizer_of_another_kind_of_file(tmp_path: Path, name: str) -> None:
    """Of a file that the model's class does not know, the library makes an empty tokenizer."""
    for file in save_qwen2(tmp_path).glob("tokenizer*"):
        file.unlink()
    (tmp_path / name).write_bytes(b"\x0a\x0b")
    refused(
        tmp_path, r"the tokenizer of .*save its tokenizer\.json there; .*`pip install sentencep"
    )


def test_shards_without_their_index(tmp_path: Path) -> None:
    weights = save_qwen2(tmp_path) / "model.safetensors"
    weights.rename(tmp_path / "model-00001-of-00001.safetensors")
    refused(
        tmp_path, r"has model-00001-of-00001\.safetensors, but neither a model\.safetensors\.ind"
    )


def test_an_adapter_alone(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    refused(tmp_path, "is an adapter without a model: merge it into its base")


def test_a_target_that_is_not_there_is_told_what_is(tmp_path: Path) -> None:
    model = load_model(str(save_qwen2(tmp_path)))
    with pytest.raises(InputError, match=r"'c_attn' .* it has down_proj, gate_proj, k_proj, .*up_"):
        check_model(model, ("all-linear", "c_attn"))
    layers = LinearLayers(model.model)
    both = layers.resolve(("all-linear", "q_proj"))
    assert both == layers.resolve(("all-linear",)) and len(both) > len(layers.resolve(("q_proj",)))


def test_a_target_is_looked_for_where_a_text_goes(tmp_path: Path) -> None:
    """An eye's layers have the names of the decoder's; PEFT's adapters there would do nothing."""
    eye = {key: value for key, value in SIZES.items() if key != "vocab_size"}
    text = {**SIZES, "num_key_value_heads": 2, "head_dim": 8, "eos_token_id": 256}
    vision = {**eye, "image_size": 28, "patch_size": 14}
    model = AutoModelForCausalLM.from_config(
        Gemma3Config(text_config=text, vision_config=vision, eos_token_id=256)
    )
    model.save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    loaded = load_model(str(tmp_path))
    (name,) = LinearLayers(loaded.model).resolve(("q_proj",))
    assert name == "model.language_model.layers.0.self_attn.q_proj"
    assert LinearLayers(loaded.model).short_names([name]) == [name]
    assert check_model(loaded, ("q_proj",)).is_fast
    with pytest.raises(InputError, match=r"'fc1' .* names no linear layer"):
        check_model(loaded, ("fc1",))


def refused(folder: Path, reason: str) -> None:
    with pytest.raises(InputError, match=reason) as error:
        load_model(str(folder))
    assert str(folder) in str(error.value)
    assert "\n" not in str(error.value) and len(str(error.value)) < 700
