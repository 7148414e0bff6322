"""Tiny random models of other kinds than plain dense decoders, in Hugging Face folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    CamembertConfig,
    GPT2Config,
    Lfm2Config,
    LlamaConfig,
    Mamba2Config,
    OpenAIGPTConfig,
    OPTConfig,
    Qwen2MoeConfig,
)

from tests.models import byte_tokenizer

ENDS: dict[str, Any] = {"vocab_size": 257, "eos_token_id": 256, "bos_token_id": 256}
CONFIGS = {
    "gpt2": GPT2Config(n_embd=32, n_layer=2, n_head=4, initializer_range=0.3, **ENDS),
    "experts": Qwen2MoeConfig(
        hidden_size=32,
        intermediate_size=48,
        moe_intermediate_size=16,
        shared_expert_intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_experts=4,
        num_experts_per_tok=2,
        initializer_range=0.3,
        **ENDS,
    ),
    "recurrent": Mamba2Config(
        hidden_size=32,
        num_hidden_layers=2,
        num_heads=4,
        head_dim=16,
        state_size=8,
        n_groups=1,
        initializer_range=0.3,
        pad_token_id=256,
        **ENDS,
    ),
    "hybrid": Lfm2Config(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        layer_types=["conv", "full_attention", "conv"],
        initializer_range=0.3,
        pad_token_id=256,
        **ENDS,
    ),
    "encoder": CamembertConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        is_decoder=True,
        initializer_range=0.3,
        pad_token_id=1,
        **ENDS,
    ),
    "bert": BertConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        is_decoder=True,
        initializer_range=0.3,
        pad_token_id=256,
        **ENDS,
    ),
    "dropout": OPTConfig(
        hidden_size=32,
        ffn_dim=48,
        word_embed_proj_dim=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        dropout=0.5,
        init_std=0.3,
        pad_token_id=256,
        **ENDS,
    ),
    "no checkpoints": OpenAIGPTConfig(
        n_embd=32, n_layer=2, n_head=4, n_positions=64, initializer_range=0.3, **ENDS
    ),
    "untied": LlamaConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        initializer_range=0.3,
        **ENDS,
    ),
}


def save_family(folder: Path, kind: str) -> Path:
    """One of `CONFIGS` with a tokenizer of a token per byte, and one that ends."""
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(CONFIGS[kind]).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder
