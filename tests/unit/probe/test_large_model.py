"""The probe passes a sound model in the width of a 7B one, in bfloat16: rounding is no fault.

Two layers with random weights, and a small vocabulary, since a large one would only cost memory.
"""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen2Config

from seal_core.models.loading import load_model
from seal_core.probe.model_check import check_model
from tests.models import byte_tokenizer


@pytest.mark.long
def test_two_layers_of_a_7b_model_in_bfloat16(tmp_path) -> None:
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=4096,
        hidden_size=3584,
        intermediate_size=18944,
        num_hidden_layers=2,
        num_attention_heads=28,
        num_key_value_heads=4,
        max_position_embeddings=32768,
        rope_theta=1e6,
        eos_token_id=256,
        bos_token_id=None,
    )
    torch.set_default_dtype(torch.bfloat16)
    try:
        model = AutoModelForCausalLM.from_config(config)
    finally:
        torch.set_default_dtype(torch.float32)
    model.save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    del model
    verdict = check_model(load_model(str(tmp_path), dtype="bfloat16"))
    assert verdict.refused is None and verdict.is_fast and verdict.trainer == "packed"
    errors = [found.error for found in verdict.comparisons]
    assert all(error is not None and 0 < error < 0.06 for error in errors)
