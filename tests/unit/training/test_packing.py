"""Packed rows give what each gives alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma3TextConfig, MistralConfig, Qwen2Config

from seal_core.models.loading import load_model
from seal_core.training.packing import Packing, can_pack, packed


def stream_logits(model, rows) -> list[torch.Tensor]:
    packing = Packing.build([len(row) for row in rows], torch.device("cpu"))
    stream = torch.tensor([[token for row in rows for token in row]])
    with packed(model), torch.no_grad():
        logits = model(stream, position_ids=packing.positions, use_cache=False, packing=packing)
    return list(logits.logits[0].split([len(row) for row in rows]))


def some_rows(lengths: list[int]) -> list[list[int]]:
    return [[(3 + 5 * i + 11 * row) % 250 for i in range(n)] for row, n in enumerate(lengths)]


@pytest.mark.parametrize("lengths", [[1], [9], [5, 5, 5], [2, 30, 7, 1, 29, 12]])
def test_logits_are_those_of_each_row_alone(model_path, lengths) -> None:
    model = load_model(model_path, dtype="float64").model
    rows = some_rows(lengths)
    with torch.no_grad():
        alone = [model(torch.tensor([row])).logits[0] for row in rows]
    for ours, own in zip(stream_logits(model, rows), alone, strict=True):
        assert (ours - own).abs().max() <= 1e-10
    assert model.config._attn_implementation == "sdpa"


def test_nan_stays_in_its_row(model_path) -> None:
    model = load_model(model_path).model
    rows = some_rows([20, 9, 12])
    clean = stream_logits(model, rows)
    broken = model.get_input_embeddings().weight
    only_first = next(token for token in rows[0] if all(token not in row for row in rows[1:]))
    broken.data[only_first] = float("nan")
    dirty = stream_logits(model, rows)
    assert not dirty[0].isfinite().all()
    assert all(torch.equal(dirty[i], clean[i]) for i in (1, 2))


@pytest.mark.parametrize("family", ["qwen2", "llama"])
def test_common_models_can_be_packed(make_model, tmp_path, family) -> None:
    assert can_pack(load_model(make_model(tmp_path / family, family)))


SIZES = {
    "vocab_size": 257,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "bos_token_id": None,
    "eos_token_id": 256,
    "pad_token_id": 256,
    "sliding_window": 16,
}
WINDOWED = {
    "every layer": Qwen2Config(
        num_hidden_layers=2, use_sliding_window=True, max_window_layers=0, **SIZES
    ),
    "some layers": Qwen2Config(
        num_hidden_layers=4, use_sliding_window=True, max_window_layers=2, **SIZES
    ),
    "no kinds of layers": MistralConfig(num_hidden_layers=2, **SIZES),
    "alternating": Gemma3TextConfig(num_hidden_layers=7, head_dim=8, **SIZES),
}


@pytest.mark.parametrize("kind", sorted(WINDOWED))
def test_each_layer_keeps_its_own_window(loaded, kind) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(WINDOWED[kind], dtype=torch.float64).eval()
    own = replace(loaded, model=model)
    rows = some_rows([48, 6, 40])
    with torch.no_grad():
        alone = [model(torch.tensor([row])).logits[0] for row in rows]
    for ours, expected in zip(stream_logits(model, rows), alone, strict=True):
        assert (ours - expected).abs().max() <= 1e-10
    assert can_pack(own)


def test_a_model_without_room_for_its_window_is_left_alone(loaded) -> None:
    config = MistralConfig(
        num_hidden_layers=1, **{**SIZES, "sliding_window": 9000, "max_position_embeddings": 20000}
    )
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    assert not can_pack(replace(loaded, model=model, context=20000))


def test_a_model_that_mixes_tokens_elsewhere_is_found_out(loaded, monkeypatch) -> None:
    mlp = loaded.model.model.layers[0].mlp
    forward = mlp.forward
    # As in models with a convolution or a state beside attention.
    monkeypatch.setattr(mlp, "forward", lambda x: forward(x) + x.roll(1, dims=1))
    assert not can_pack(loaded)
