"""Attention that is more than attention: indexers, latent keys, queries scaled by their place."""

from __future__ import annotations

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    DeepseekV3Config,
    DeepseekV32Config,
    Llama4TextConfig,
    MiniMaxM3VLTextConfig,
)

from seal_core.engines import GenerateRequest
from seal_core.generation.plain_generator import PlainGenerator
from seal_core.generation.transformers_generator import TransformersGenerator
from seal_core.models.loading import load_model
from seal_core.probe.model_check import check_model
from tests.unit.conftest import save_tokenizer

CONFIGS = {
    # The cache holds other sizes for keys than for values.
    "latent": DeepseekV3Config(
        vocab_size=257,
        eos_token_id=256,
        bos_token_id=256,
        pad_token_id=256,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        first_k_dense_replace=2,
        q_lora_rank=8,
        kv_lora_rank=12,
        qk_rope_head_dim=8,
        qk_nope_head_dim=8,
        v_head_dim=16,
        initializer_range=0.3,
    ),
    "indexer": DeepseekV32Config(
        vocab_size=257,
        eos_token_id=256,
        bos_token_id=256,
        pad_token_id=256,
        hidden_size=32,
        intermediate_size=48,
        moe_intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        n_routed_experts=4,
        num_experts_per_tok=2,
        n_group=1,
        topk_group=1,
        q_lora_rank=8,
        kv_lora_rank=8,
        qk_rope_head_dim=8,
        qk_nope_head_dim=8,
        v_head_dim=8,
        index_topk=4,
        index_head_dim=8,
        index_n_heads=16,
        initializer_range=0.3,
    ),
    # Blocks longer than the probe's rows, as in the published model.
    "blocks": MiniMaxM3VLTextConfig(
        vocab_size=257,
        eos_token_id=256,
        bos_token_id=256,
        pad_token_id=256,
        hidden_size=32,
        intermediate_size=48,
        dense_intermediate_size=48,
        shared_intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        rotary_dim=4,
        num_local_experts=4,
        num_experts_per_tok=2,
        index_head_dim=8,
        index_n_heads=4,
        layer_types=["full_attention", "minimax_m3_sparse"],
        mlp_layer_types=["dense", "sparse"],
        initializer_range=0.3,
    ),
    "scaled": Llama4TextConfig(
        vocab_size=257,
        eos_token_id=256,
        bos_token_id=256,
        pad_token_id=256,
        hidden_size=32,
        intermediate_size=48,
        intermediate_size_mlp=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        num_local_experts=2,
        floor_scale=16,
        max_position_embeddings=64,
        initializer_range=0.3,
    ),
}


@pytest.fixture
def save(tmp_path):
    def save(kind: str) -> str:
        torch.manual_seed(0)
        folder = tmp_path / kind
        AutoModelForCausalLM.from_config(CONFIGS[kind]).save_pretrained(folder)
        save_tokenizer(folder)
        return str(folder)

    return save


@pytest.mark.parametrize(
    ("kind", "prompts"),
    [
        ("indexer", ("ab", "a prompt longer than the indexer's choice", "middle one")),
        ("scaled", ("ab", "a prompt", "mid")),
        # So unequal that they are read in parts.
        ("latent", ("a", "ten tokens", "x" * 80, "y" * 90)),
    ],
)
def test_a_batch_answers_as_generate_does(save, kind, prompts) -> None:
    requests = [GenerateRequest(str(i), prompt, (), 7) for i, prompt in enumerate(prompts)]
    path = save(kind)
    batched = TransformersGenerator(load_model(path)).generate(requests)
    plain = PlainGenerator(load_model(path)).generate(requests)
    assert [one.error for one in batched] == [None] * len(prompts)
    assert [one.text for one in batched] == [one.text for one in plain]
    expected = [one.logprob for one in plain]
    assert [one.logprob for one in batched] == pytest.approx(expected, rel=1e-4)


def test_a_model_that_scales_by_place_takes_no_row_that_reaches_it(save) -> None:
    loaded = load_model(save("scaled"))
    assert loaded.context == 15
    (answer,) = TransformersGenerator(loaded).generate([GenerateRequest("0", "x" * 15, (), 3)])
    assert answer.error == "the prompt has 15 tokens and the model's context is 15"


def test_layers_that_count_padding_into_blocks_are_never_batched(save) -> None:
    loaded = load_model(save("blocks"))
    verdict = check_model(loaded)
    assert (verdict.refused, verdict.generator, verdict.trainer) == (None, "plain", "padded")
    faults = {one.name: one.fault for one in verdict.comparisons if one.fault}
    assert "count padding" in faults["answers of a batch"]
