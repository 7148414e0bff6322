"""Random Qwen2 models of a given shape, made in memory where they will run."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers import AutoModelForCausalLM, Qwen2Config

from seal_core.models.loading import LoadedModel
from tests.models import byte_tokenizer

CONTEXT = 4096


@dataclass(frozen=True, slots=True)
class Shape:
    """What a Qwen2 needs to be built, and to have its work counted."""

    name: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int
    vocab: int = 257

    def linears(self) -> dict[str, tuple[int, int]]:
        """Inputs and outputs of one block's linear layers."""
        kv = self.hidden // self.heads * self.kv_heads
        wide = self.intermediate
        return {
            "q_proj": (self.hidden, self.hidden),
            "k_proj": (self.hidden, kv),
            "v_proj": (self.hidden, kv),
            "o_proj": (self.hidden, self.hidden),
            "gate_proj": (self.hidden, wide),
            "up_proj": (self.hidden, wide),
            "down_proj": (wide, self.hidden),
        }


CPU_SHAPES = (
    Shape("256x4", 256, 4, heads=4, kv_heads=2, intermediate=1024),
    Shape("64x28", 64, 28, heads=2, kv_heads=1, intermediate=256),
)
"""GEMM-bound and overhead-bound on a CPU, as hidden size times layers."""

QWEN_7B = Shape("7B", 3584, 28, heads=28, kv_heads=4, intermediate=18944, vocab=152064)
"""Qwen2.5-7B, the paper's model (its config.json)."""

SMOLLM = Shape("135M", 576, 30, heads=9, kv_heads=3, intermediate=1536, vocab=49152)
"""SmolLM2-135M's shape (its config.json)."""

TOY = Shape("toy", 32, 2, heads=2, kv_heads=1, intermediate=64)


def build(
    shape: Shape, device: str = "cpu", dtype: torch.dtype = torch.float32, seed: int = 0
) -> LoadedModel:
    """A random model with one token per byte; nothing is written or downloaded.

    Byte tokens are the first of the vocabulary; the head's other rows are never an answer.
    """
    tokenizer = byte_tokenizer()
    end = len(tokenizer) - 1
    tokenizer.pad_token_id = end
    tokenizer.padding_side = "left"
    config = Qwen2Config(
        vocab_size=shape.vocab,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=CONTEXT,
        eos_token_id=end,
        bos_token_id=None,
    )
    torch.manual_seed(seed)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    model.eval().requires_grad_(False)
    # An answer has its full length, and its text is bytes: the end token and those beyond get
    # the logit 0, below the largest of 256 random ones.
    model.get_output_embeddings().weight.data[end:] = 0.0
    place = model.get_input_embeddings().weight.device
    return LoadedModel(model, tokenizer, shape.name, end, end, (end,), CONTEXT, place)
