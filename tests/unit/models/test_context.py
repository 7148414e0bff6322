"""Models are used up to where their positions end, or change for a whole batch."""

from __future__ import annotations

import json
from pathlib import Path

from transformers import MptConfig, Phi3Config, Qwen2Config, WhisperConfig

from seal_core.models.text.context import longest_row
from seal_core.models.text.tokenizers import right_below

_STRETCHED = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [2.0] * 4}


def saved(folder: Path, **rope) -> str:
    config = Phi3Config(
        vocab_size=257,
        hidden_size=32,
        num_attention_heads=4,
        max_position_embeddings=512,
        pad_token_id=0,
        **rope,
    )
    config.save_pretrained(folder)
    return str(folder)


def test_a_stretched_model_is_right_below_its_first_length(tmp_path) -> None:
    path = saved(tmp_path, rope_parameters=_STRETCHED, original_max_position_embeddings=128)
    assert json.loads((tmp_path / "config.json").read_text())["max_position_embeddings"] == 512
    assert right_below(path) == 128


def test_other_models_have_all_of_their_context(tmp_path) -> None:
    assert right_below(saved(tmp_path)) is None
    assert longest_row(Qwen2Config(max_position_embeddings=300)) == 300


def test_the_length_is_known_by_any_of_its_names() -> None:
    assert longest_row(MptConfig(max_seq_len=300)) == 300
    assert longest_row(WhisperConfig(max_target_positions=300)) == 300
