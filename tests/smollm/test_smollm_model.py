"""The converted model is the real one: its tokens, its template, what it knows, its verdict."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from gguf import GGUFReader, dequantize

from seal_core.engines import GenerateRequest
from seal_core.generation.transformers_generator import TransformersGenerator
from seal_core.models.loading import LoadedModel
from seal_core.models.text.tokens import encode_prompt
from tests.e2e.test_command import seal

SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"


def test_texts_have_the_tokens_of_the_published_tokenizer(loaded: LoadedModel) -> None:
    tokenizer = loaded.tokenizer
    assert tokenizer("Hello world")["input_ids"] == [19556, 905]
    assert tokenizer.tokenize("in 1996.\n\n2.  3") == [
        *("in", "Ġ", "1", "9", "9", "6", "."),
        *("ĊĊ", "2", ".", "ĠĠ", "3"),
    ]
    assert (loaded.eos_id, loaded.stop_ids, loaded.context) == (2, (2,), 8192)
    assert tokenizer.convert_ids_to_tokens(2) == "<|im_end|>"


def test_a_question_is_put_through_the_models_own_template(loaded: LoadedModel) -> None:
    ids = encode_prompt(loaded.codec, "Who?", chat=True)
    assert loaded.tokenizer.decode(ids) == (
        f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\nWho?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert ids[0] == 1 and ids.count(2) == 2


def test_it_knows_english_and_some_of_the_world(
    loaded: LoadedModel, generator: TransformersGenerator
) -> None:
    """Weights in a wrong order would give noise: about 10.8 nats a token."""
    text = "The sun rises in the east and sets in the west. Water is made of hydrogen and oxygen."
    ids = torch.tensor([loaded.tokenizer(text)["input_ids"]])
    with torch.inference_mode():
        assert float(loaded.model(ids, labels=ids).loss) < 3.0
    requests = [
        GenerateRequest("a", "The capital of France is", max_tokens=4),
        GenerateRequest("b", "What is the capital of France?", max_tokens=24, chat=True),
    ]
    for answer in generator.generate(requests):
        assert answer.text is not None and "Paris" in answer.text


def test_it_is_used_the_fast_way(model_path: str, tmp_path: Path) -> None:
    typed = ("model", "check", model_path, "--dtype", "float32", "--json")
    verdict = json.loads(seal(*typed, cwd=tmp_path))
    assert (verdict["refused"], verdict["generator"], verdict["trainer"]) == (
        *(None, "batched"),
        "packed",
    )
    assert all(found["fault"] in (None, "") for found in verdict["comparisons"])


def test_its_weights_are_those_of_the_gguf(
    gguf_path: Path, loaded: LoadedModel, compared: Callable[[str], None]
) -> None:
    """Unpacked by the `gguf` package on its own; the heads of q and k are in another order."""
    weights = loaded.model.state_dict()
    tensors = {tensor.name: tensor for tensor in GGUFReader(gguf_path).tensors}
    assert sum(int(t.n_elements) for t in tensors.values()) == 134_515_008
    for name, theirs in (
        ("model.embed_tokens.weight", "token_embd.weight"),
        ("model.norm.weight", "output_norm.weight"),
        ("model.layers.0.self_attn.v_proj.weight", "blk.0.attn_v.weight"),
        ("model.layers.29.mlp.down_proj.weight", "blk.29.ffn_down.weight"),
        ("model.layers.29.self_attn.o_proj.weight", "blk.29.attn_output.weight"),
    ):
        unpacked = dequantize(tensors[theirs].data, tensors[theirs].tensor_type)
        assert torch.equal(weights[name], torch.from_numpy(unpacked.copy())), name
    compared("5 converted tensors and those that the gguf package unpacks: equal")


def test_it_is_not_converted_over_itself(gguf_path: Path, model_path: str, tmp_path: Path) -> None:
    before = sorted((p.name, p.stat().st_mtime_ns) for p in Path(model_path).iterdir())
    seal("model", "convert", str(gguf_path), model_path, cwd=tmp_path, code=2)
    assert sorted((p.name, p.stat().st_mtime_ns) for p in Path(model_path).iterdir()) == before
