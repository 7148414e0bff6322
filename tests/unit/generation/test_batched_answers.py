"""An answer depends on its request alone, whatever shares its batch."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

from seal_core.engines import GenerateRequest, Generation, ScoreRequest
from seal_core.generation.batching import Item, pack, split_by_length
from seal_core.generation.lora_bank import LoraBank
from seal_core.generation.transformers_generator import TransformersGenerator
from seal_core.models.loading import LoadedModel, load_model
from seal_core.models.text.tokens import encode_completion, encode_prompt

SIZES = (6, 5, 4, 3, 2, 1)
"""Rows per stack: more sizes than get a product of their own, so some are filled up."""


@pytest.fixture
def exact(model_path: str) -> TransformersGenerator:
    return TransformersGenerator(load_model(model_path, dtype="float64"))


@pytest.fixture(scope="session")
def stacks(adapters: dict[str, str], model_path: str, make_adapter, tmp_path_factory):
    """Other ranks and targets each, two stacks of two, and no adapters."""
    late = make_adapter(
        tmp_path_factory.mktemp("late"), model_path, 7, r=3, target_modules=["o_proj", "gate_proj"]
    )
    small, wide, mlp = adapters["small"], adapters["wide"], adapters["mlp"]
    return [(wide, mlp), (small,), (late,), (), (wide,), (mlp, late)]


def mixed_requests(stacks) -> list[GenerateRequest]:
    """Groups of unequal size, prompts of many lengths, answers that end early, some sampled."""
    rows = [stack for stack, size in zip(stacks, SIZES, strict=True) for _ in range(size)]
    random.Random(1).shuffle(rows)
    return [
        GenerateRequest(
            f"r{i}",
            "What is it? " * (1 + i % 4) + "xyz" * (i % 3),
            rows[i],
            max_tokens=(3, 24, 9, 16)[i % 4],
            temperature=0.8 * (i % 3 == 2),
            top_p=0.9 if i % 2 else 1.0,
            stop=("e",) if i % 5 == 0 else (),
            seed=i,
        )
        for i in range(len(rows))
    ]


def assert_same(first: list[Generation], second: list[Generation], limit: float = 1e-10) -> None:
    for one, other in zip(first, second, strict=True):
        assert (one.request_id, one.text, one.n_tokens, one.finish_reason) == (
            other.request_id,
            other.text,
            other.n_tokens,
            other.finish_reason,
        )
        assert one.logprob == pytest.approx(other.logprob, abs=limit, rel=0)


def test_answers_do_not_depend_on_the_batch(exact, stacks) -> None:
    requests = mixed_requests(stacks)
    alone = [exact.generate([request])[0] for request in requests]
    assert len({answer.n_tokens for answer in alone}) > 4
    assert_same(exact.generate(requests), alone)
    assert_same(exact.generate(requests[::-1])[::-1], alone)
    for stack in stacks:
        some = [i for i, request in enumerate(requests) if request.adapters != stack]
        assert_same(exact.generate([requests[i] for i in some]), [alone[i] for i in some])


def test_scores_do_not_depend_on_the_batch(exact, stacks) -> None:
    requests = [
        ScoreRequest(r.request_id, r.prompt, " because" * (1 + i % 3), r.adapters)
        for i, r in enumerate(mixed_requests(stacks))
    ]
    alone = [exact.score([request])[0].logprob for request in requests]
    for order in (requests, requests[::-1], requests[::2]):
        for scored in exact.score(order):
            expected = alone[int(scored.request_id[1:])]
            assert scored.logprob == pytest.approx(expected, abs=1e-10, rel=0)


def test_single_precision_keeps_tokens_and_logprobs(loaded, stacks) -> None:
    generator = TransformersGenerator(loaded)
    requests = [replace(r, temperature=0.0) for r in mixed_requests(stacks)]
    alone = [generator.generate([request])[0] for request in requests]
    # 1e-5 per token; the sums are over at most 24.
    assert_same(generator.generate(requests), alone, 24e-5)


def peft_alone(model_path: str, paths: tuple[str, ...]):
    """The float64 model with a stack as PEFT applies it: the first merged, the last live."""
    model = load_model(model_path, dtype="float64").model
    for path in paths[:-1]:
        model = peft.PeftModel.from_pretrained(model, path).merge_and_unload()
    return peft.PeftModel.from_pretrained(model, paths[-1]).double().eval() if paths else model


def test_greedy_answers_equal_pefts_generate(exact, stacks, model_path) -> None:
    requests = [replace(r, temperature=0.0, stop=()) for r in mixed_requests(stacks)]
    answers = dict(zip(requests, exact.generate(requests), strict=True))
    codec = load_model(model_path).codec
    for stack in stacks:
        model = peft_alone(model_path, stack)
        for request in (request for request in requests if request.adapters == stack):
            ids = torch.tensor([encode_prompt(codec, request.prompt)])
            output = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=request.max_tokens,
                do_sample=False,
                pad_token_id=0,
            )
            expected = output[0, ids.shape[1] :].tolist()
            answer = answers[request]
            assert answer.n_tokens == len(expected)
            assert answer.text == codec.tokenizer.decode(expected, skip_special_tokens=True)


def test_scores_equal_pefts_log_softmax(exact, stacks, model_path) -> None:
    requests = [
        ScoreRequest(f"{i}", "Why? " * (1 + i), " so" * (6 - i), stack)
        for i, stack in enumerate(stacks)
    ]
    codec = load_model(model_path).codec
    for request, scored in zip(requests, exact.score(requests), strict=True):
        prompt = encode_prompt(codec, request.prompt)
        answer = encode_completion(codec, request.completion)
        ids = torch.tensor([prompt + answer])
        with torch.inference_mode():
            logits = peft_alone(model_path, request.adapters)(input_ids=ids).logits
        picked = logits.log_softmax(-1)[0, :-1].gather(1, ids[0, 1:, None])[len(prompt) - 1 :]
        # PEFT keeps merged weights of a stack in the adapters' precision for a moment.
        assert scored.logprob == pytest.approx(float(picked.sum()), abs=1e-6, rel=0)


def test_a_refused_adapter_leaves_its_neighbours_bitwise(
    exact, stacks, model_path, make_adapter, tmp_path
) -> None:
    bad = Path(make_adapter(tmp_path / "nan", model_path, 9, target_modules=["q_proj", "up_proj"]))
    tensors = load_file(bad / "adapter_model.safetensors")
    next(iter(tensors.values()))[0, 0] = float("nan")
    save_file(tensors, bad / "adapter_model.safetensors")
    requests = mixed_requests(stacks)
    refused = [
        replace(r, request_id=f"bad{i}", adapters=(str(bad),)) for i, r in enumerate(requests)
    ]
    expected = exact.generate(requests)
    mixed = exact.generate([r for pair in zip(refused, requests, strict=True) for r in pair])
    assert mixed[1::2] == expected
    assert all("NaN" in (answer.error or "") for answer in mixed[::2])


def test_nan_in_one_group_stays_in_it(loaded, stacks) -> None:
    """The layout itself keeps groups apart, filler included."""
    bank = LoraBank(loaded.model, 1 << 20)
    held = [bank.load(stack) for stack in stacks if stack]
    rows = [held[i] for i, size in enumerate((6, 5, 4, 3, 2)) for _ in range(size)]
    ids = torch.arange(21 * 4).view(21, 4) % 250
    with torch.inference_mode():
        bank.activate([*rows, None])
        clean = loaded.model(ids).logits
        for tensor in held[2].down.values():
            tensor.fill_(float("nan"))
        bank.activate([*rows, None])
        dirty = loaded.model(ids).logits
        bank.deactivate()
    assert torch.isnan(dirty[11:15]).all()
    assert torch.equal(dirty[:11], clean[:11]) and torch.equal(dirty[15:], clean[15:])


def test_rows_of_one_adapter_share_its_weights(loaded, adapters) -> None:
    bank = LoraBank(loaded.model, 1 << 20)
    wide, small = bank.load((adapters["wide"],)), bank.load((adapters["small"],))
    bank.activate([wide] * 5 + [small] * 3 + [None])
    layer = loaded.model.get_submodule("model.layers.0.self_attn.q_proj")
    assert layer.down.shape == (2, 32, 8)
    bank.keep([5, 8])
    assert layer.down.shape[0] == 1 and torch.equal(
        layer.down[0, :, :4], small.down["model.layers.0.self_attn.q_proj"]
    )
    bank.keep([1])
    assert not layer.segments
    with pytest.raises(ValueError, match="stand together"):
        bank.activate([wide, small, wide])
    bank.deactivate()
    assert layer.down is None


def test_a_batch_counts_each_stack_once() -> None:
    items = [Item(i, 8, 8, i // 5, 100) for i in range(40)]
    assert [len(batch) for batch in pack(items, 10_000, 400)] == [20, 20]
    assert [len(batch) for batch in pack(items, 10_000, 100)] == [5] * 8


def test_prompts_are_split_at_the_least_cost() -> None:
    lengths = [10, 50, 11, 52, 300, 10]
    assert sorted(map(sorted, split_by_length(lengths, 64))) == [[0, 2, 5], [1, 3], [4]]
    assert len(split_by_length(lengths, 10_000)) == 1
    assert sorted(map(sorted, split_by_length(lengths, 0))) == [[0, 5], [1], [2], [3], [4]]
    numbers = random.Random(0)
    for _ in range(20):
        lengths = [numbers.randint(1, 30) for _ in range(6)]
        found = split_by_length(lengths, 7)
        kinds = sorted(lengths)
        cuts = itertools.chain.from_iterable(
            itertools.combinations(range(1, 6), n) for n in range(6)
        )
        best = min(
            sum((b - a) * kinds[b - 1] + 7 for a, b in itertools.pairwise((0, *cut, 6)))
            for cut in cuts
        )
        assert sum(len(c) * max(lengths[i] for i in c) + 7 for c in found) == best


@pytest.mark.parametrize("family", ["qwen2", "llama"])
def test_models_without_grouped_queries(
    family, make_model: Callable[..., str], make_adapter, tmp_path
) -> None:
    path = make_model(tmp_path / "model", family, num_key_value_heads=4)
    adapter = make_adapter(tmp_path / "a", path, 5)
    generator = TransformersGenerator(load_model(path, dtype="float64"))
    requests = [
        GenerateRequest(f"{i}", "Hello" * (1 + i), (adapter,) * (i % 2), max_tokens=6)
        for i in range(4)
    ]
    assert_same(generator.generate(requests), [generator.generate([r])[0] for r in requests])


def test_a_sliding_window_is_kept(make_model, make_adapter, tmp_path) -> None:
    path = make_model(
        tmp_path / "model", use_sliding_window=True, sliding_window=8, max_window_layers=1
    )
    adapter = make_adapter(tmp_path / "a", path, 5)
    generator = TransformersGenerator(load_model(path, dtype="float64"))
    requests = [
        GenerateRequest(f"{i}", "Hello you " * (1 + i), (adapter,) * (i % 2), max_tokens=20 - 4 * i)
        for i in range(4)
    ]
    assert_same(generator.generate(requests), [generator.generate([r])[0] for r in requests])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_on_a_gpu(model_path, stacks, dtype) -> None:
    loaded: LoadedModel = load_model(model_path, device="cuda", dtype=dtype)
    generator = TransformersGenerator(loaded)
    requests = mixed_requests(stacks)
    answers = generator.generate(requests)
    assert all(answer.error is None for answer in answers)
    if dtype == "float64":
        assert_same(answers, [generator.generate([request])[0] for request in requests])
        cpu = TransformersGenerator(load_model(model_path, device="cpu", dtype=dtype))
        assert_same(answers, cpu.generate(requests), 1e-8)
