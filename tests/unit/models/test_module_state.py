"""No text leaves anything on a model's modules that the next one would go on from."""

from __future__ import annotations

import torch
from transformers import AutoModelForCausalLM, RecurrentGemmaConfig

from seal_core.engines import GenerateRequest
from seal_core.generation.plain_generator import PlainGenerator
from seal_core.models.loading import load_model
from tests.unit.conftest import save_tokenizer


def test_a_prompt_of_one_token_starts_afresh(tmp_path) -> None:
    torch.manual_seed(0)
    config = RecurrentGemmaConfig(
        vocab_size=257,
        eos_token_id=256,
        bos_token_id=256,
        pad_token_id=256,
        hidden_size=32,
        lru_width=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=1,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    plain = PlainGenerator(load_model(str(tmp_path)))
    asked = [GenerateRequest(str(i), text, (), 6) for i, text in enumerate(("a", "before", "a"))]
    first, _, again = plain.generate(asked)
    assert (again.text, again.logprob) == (first.text, first.logprob)
