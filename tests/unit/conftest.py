"""Tiny random models, adapters and a byte-level tokenizer for the unit tests."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from seal_core.models.loading import LoadedModel, load_model

torch.set_num_threads(1)
logging.getLogger("transformers").setLevel(logging.ERROR)

CHAT = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}"
    "{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def save_tokenizer(folder: Path) -> None:
    """A tokenizer with one token per byte, an end token and a chat template."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({char: i for i, char in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>")
    assert len(fast) == 257
    fast.chat_template = CHAT
    fast.save_pretrained(folder)


def save_model(folder: Path, family: str = "qwen2", **overrides: Any) -> str:
    """A random model of a few thousand weights, in a folder like any other model's."""
    sizes: dict[str, Any] = {
        "vocab_size": 257,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "eos_token_id": 256,
        "bos_token_id": None,
        "initializer_range": 0.3,
    }
    sizes.update(overrides)
    torch.manual_seed(0)
    if family == "qwen2":
        model = Qwen2ForCausalLM(Qwen2Config(**sizes))
    else:
        model = LlamaForCausalLM(LlamaConfig(**sizes))
    model.save_pretrained(folder)
    save_tokenizer(folder)
    return str(folder)


def save_adapter(folder: Path, model_path: str, seed: int, **lora: Any) -> str:
    """An adapter as PEFT itself writes it, with random A and B."""
    config = peft.LoraConfig(**{"r": 4, "lora_alpha": 8.0, "target_modules": ["q_proj"], **lora})
    wrapped = peft.get_peft_model(load_model(model_path).model, config)
    generator = torch.Generator().manual_seed(seed)
    for name, weight in wrapped.named_parameters():
        if "lora_" in name:
            weight.data = torch.randn(weight.shape, generator=generator) * 0.2
    wrapped.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_model(tmp_path_factory.mktemp("qwen2"))


@pytest.fixture(scope="session")
def adapters(model_path: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Three adapters of different rank, scale and targets."""
    root = tmp_path_factory.mktemp("adapters")
    return {
        "small": save_adapter(root / "small", model_path, 1),
        "wide": save_adapter(
            root / "wide", model_path, 2, r=8, lora_alpha=4.0, target_modules="all-linear"
        ),
        "mlp": save_adapter(
            root / "mlp", model_path, 3, r=2, target_modules=["up_proj", "down_proj", "q_proj"]
        ),
    }


@pytest.fixture(scope="session")
def make_model() -> Callable[..., str]:
    return save_model


@pytest.fixture(scope="session")
def make_adapter() -> Callable[..., str]:
    return save_adapter


@pytest.fixture
def loaded(model_path: str) -> LoadedModel:
    return load_model(model_path)
