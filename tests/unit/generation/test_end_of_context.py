"""At the end of a model's context a batch still answers every row as it is answered alone."""

from __future__ import annotations

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    GPTNeoConfig,
    Llama4TextConfig,
    LlamaConfig,
    MptConfig,
    Phi3Config,
    WhisperConfig,
)

from seal_core.engines import GenerateRequest
from seal_core.generation.plain_generator import PlainGenerator
from seal_core.generation.transformers_generator import TransformersGenerator
from seal_core.models.loading import load_model
from tests.unit.conftest import save_tokenizer

ENDS = {"vocab_size": 257, "eos_token_id": 256, "bos_token_id": 256, "pad_token_id": 256}
HEADS = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
SIZES = {**ENDS, **HEADS, "num_key_value_heads": 2, "intermediate_size": 48}
STRETCHED = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [4.0] * 4}
CONFIGS = {
    # These turn all rows of a batch by its largest position.
    "longrope": Phi3Config(
        max_position_embeddings=512,
        original_max_position_embeddings=64,
        rope_parameters=STRETCHED,
        initializer_range=0.3,
        **SIZES,
    ),
    "dynamic": LlamaConfig(
        max_position_embeddings=64,
        rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0},
        initializer_range=0.3,
        **SIZES,
    ),
    # These have tables of that many positions, masks or distances.
    "positions": GPT2Config(
        n_embd=32, n_layer=2, n_head=4, n_positions=64, initializer_range=0.3, **ENDS
    ),
    "masks": GPTNeoConfig(
        hidden_size=32,
        num_layers=2,
        attention_types=[[["global", "local"], 1]],
        num_heads=4,
        window_size=16,
        max_position_embeddings=64,
        initializer_range=0.3,
        **ENDS,
    ),
    "distances": MptConfig(
        d_model=32, n_layers=2, n_heads=4, max_seq_len=64, initializer_range=0.3, **ENDS
    ),
    "decoder": WhisperConfig(
        d_model=32,
        decoder_layers=2,
        decoder_attention_heads=4,
        decoder_ffn_dim=48,
        max_target_positions=64,
        is_encoder_decoder=False,
        init_std=0.3,
        **ENDS,
    ),
    # Scales queries by their place in the batch, in layers that attend to chunks; and windows,
    # which are kept in a cache of the library.
    "places": Llama4TextConfig(
        intermediate_size_mlp=48,
        head_dim=8,
        num_local_experts=2,
        floor_scale=65,
        attention_chunk_size=16,
        max_position_embeddings=128,
        no_rope_layers=[1, 0],
        initializer_range=0.3,
        **SIZES,
    ),
    "windows": Gemma2Config(
        head_dim=8,
        sliding_window=8,
        max_position_embeddings=64,
        initializer_range=0.3,
        **SIZES,
    ),
}
ROWS = {
    # Fewer than a quarter end here, so the finished row stays in the batch.
    "one long row": [(60, 4)] + [(10, 20)] * 7,
    "unequal rows": [(55, 5), (5, 50), (10, 30), (60, 50), (1, 40), (33, 60)],
}


def requests(rows: list[tuple[int, int]]) -> list[GenerateRequest]:
    letters = "abcdefgh"
    return [
        GenerateRequest(letter, (letter + "x" * i) * (length // (i + 1)) or letter, (), limit)
        for i, (letter, (length, limit)) in enumerate(zip(letters, rows, strict=False))
    ]


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("kind", CONFIGS)
def test_a_batch_at_the_end_of_the_context_answers_as_generate_does(kind, rows, tmp_path) -> None:
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(CONFIGS[kind]).save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    loaded = load_model(str(tmp_path))
    assert loaded.context == 64
    asked = requests(ROWS[rows])
    plain = PlainGenerator(loaded).generate(asked)
    batched = TransformersGenerator(loaded).generate(asked)
    assert [one.error for one in batched] == [None] * len(asked)
    assert [one.text for one in batched] == [one.text for one in plain]
    expected = [one.logprob for one in plain]
    assert [one.logprob for one in batched] == pytest.approx(expected, rel=1e-4)
