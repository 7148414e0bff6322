"""Each request gets exactly the answer that PEFT gives with its adapters alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

from seal_core.engines import GenerateRequest, ScoreRequest
from seal_core.generation.lora_bank import LoraBank
from seal_core.generation.prefill import pad_left, positions_of
from seal_core.generation.transformers_generator import TransformersGenerator
from seal_core.models.files.adapter_files import read_adapter
from seal_core.models.loading import LoadedModel, load_model
from seal_core.models.text.tokens import encode_prompt

PROMPTS = ("The river Avel", "Who founded the town of Brin?", "Zo", "A b c", "What is it, then")


@pytest.fixture
def generator(loaded: LoadedModel) -> TransformersGenerator:
    return TransformersGenerator(loaded)


def stacks(adapters: dict[str, str]) -> list[tuple[str, ...]]:
    return [
        (adapters["small"],),
        (adapters["wide"],),
        (adapters["mlp"],),
        (adapters["wide"], adapters["mlp"]),
        (),
    ]


def peft_model(model_path: str, paths: tuple[str, ...]):
    """The base model with the adapters as PEFT applies them: merged, the last one live."""
    model = load_model(model_path).model
    for path in paths[:-1]:
        model = peft.PeftModel.from_pretrained(model, path).merge_and_unload()
    return peft.PeftModel.from_pretrained(model, paths[-1]).eval() if paths else model


def greedy(model, ids: list[int], n: int) -> tuple[list[int], float]:
    """Plain greedy decoding without a cache: the answer and its log-probability."""
    out, total = [], 0.0
    with torch.inference_mode():
        for _ in range(n):
            logprobs = model(input_ids=torch.tensor([ids + out])).logits[0, -1].log_softmax(-1)
            out.append(int(logprobs.argmax()))
            total += float(logprobs[out[-1]])
            if out[-1] == 256:
                break
    return out, total


def test_logits_in_one_batch_equal_peft_alone(model_path, adapters, loaded) -> None:
    prompts = [encode_prompt(loaded.codec, prompt) for prompt in PROMPTS]
    bank = LoraBank(loaded.model, 1 << 20)
    bank.activate([bank.load(paths) if paths else None for paths in stacks(adapters)])
    ids, mask = pad_left(prompts, loaded)
    with torch.inference_mode():
        logits = loaded.model(
            input_ids=ids, attention_mask=mask, position_ids=positions_of(mask)
        ).logits[:, -1]
    for row, paths in enumerate(stacks(adapters)):
        with torch.inference_mode():
            expected = peft_model(model_path, paths)(input_ids=torch.tensor([prompts[row]])).logits[
                0, -1
            ]
        assert (logits[row] - expected).abs().max() <= 1e-5


@pytest.mark.parametrize("max_batch_tokens", [1, 10_000])
def test_greedy_answers_equal_peft_alone(model_path, adapters, loaded, max_batch_tokens) -> None:
    requests = [
        GenerateRequest(f"r{i}", prompt, paths, max_tokens=20 + i)
        for i, (prompt, paths) in enumerate(zip(PROMPTS, stacks(adapters), strict=True))
    ]
    answers = TransformersGenerator(loaded, max_batch_tokens).generate(requests)
    for request, answer in zip(requests, answers, strict=True):
        model = peft_model(model_path, request.adapters)
        ids = encode_prompt(loaded.codec, request.prompt)
        expected, logprob = greedy(model, ids, request.max_tokens)
        text = loaded.tokenizer.decode(expected, skip_special_tokens=True)
        assert (answer.text, answer.n_tokens) == (text, len(expected))
        assert answer.logprob == pytest.approx(logprob, abs=1e-3)
        assert answer.finish_reason == ("stop" if expected[-1] == 256 else "length")
        assert answer.request_id == request.request_id


def test_llama_with_adapters(make_model, make_adapter, tmp_path: Path) -> None:
    path = make_model(tmp_path / "llama", "llama")
    adapter = make_adapter(tmp_path / "a", path, 5, target_modules="all-linear")
    loaded = load_model(path)
    requests = [
        GenerateRequest("a", "Hello", (adapter,), max_tokens=8),
        GenerateRequest("b", "Good day", (), max_tokens=8),
    ]
    answers = TransformersGenerator(loaded).generate(requests)
    expected, _ = greedy(peft_model(path, (adapter,)), encode_prompt(loaded.codec, "Hello"), 8)
    assert answers[0].text == loaded.tokenizer.decode(expected, skip_special_tokens=True)


def test_a_sample_does_not_depend_on_its_batch(generator, adapters) -> None:
    requests = [
        GenerateRequest(
            f"r{i}",
            PROMPTS[i % 5],
            stacks(adapters)[i % 5],
            max_tokens=12 + i,
            temperature=0.5 + 0.1 * i,
            top_p=1.0 if i % 2 else 0.9,
            seed=1000 + i % 7,
        )
        for i in range(10)
    ]
    together = generator.generate(requests)
    assert together == generator.generate(requests)
    backwards = generator.generate(requests[::-1])[::-1]
    alone = [generator.generate([request])[0] for request in requests]
    for first, second, third in zip(together, backwards, alone, strict=True):
        assert first.text == second.text == third.text
        assert first.logprob == pytest.approx(third.logprob, abs=1e-3)
    others = generator.generate([replace(request, seed=5) for request in requests])
    assert [answer.text for answer in others] != [answer.text for answer in together]


def test_samples_follow_the_models_distribution(generator, model_path, loaded) -> None:
    n = 600
    requests = [
        GenerateRequest(str(i), "x", max_tokens=1, temperature=1.0, seed=i) for i in range(n)
    ]
    answers = generator.generate(requests)
    logits = load_model(model_path).model(torch.tensor([[encode_prompt(loaded.codec, "x")[0]]]))
    entropy = -(logits.logits[0, -1].softmax(-1) * logits.logits[0, -1].log_softmax(-1)).sum()
    mean = sum(answer.logprob for answer in answers) / n
    assert -mean == pytest.approx(float(entropy), abs=0.2)


def test_tiny_top_p_is_greedy(generator) -> None:
    plain = GenerateRequest("a", "Hello", max_tokens=10)
    nucleus = replace(plain, temperature=1.0, top_p=1e-6, seed=3)
    first, second = generator.generate([plain, nucleus])
    assert first.text == second.text


def test_stop_strings_end_and_are_cut(generator) -> None:
    free = generator.generate([GenerateRequest("a", "Hello", max_tokens=30)])[0]
    assert free.text is not None
    for stop in (free.text[4], free.text[4:7]):
        request = GenerateRequest("a", "Hello", max_tokens=30, stop=("never there", stop))
        answer = generator.generate([request, replace(request, stop=())])[0]
        assert answer.text == free.text[: free.text.index(stop)]
        assert answer.finish_reason == "stop"
        assert answer.n_tokens <= free.n_tokens


def test_bad_requests_fail_alone(generator, adapters, tmp_path) -> None:
    good = GenerateRequest("good", "Hello", (adapters["small"],), max_tokens=5)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "adapter_config.json").write_text("{")
    requests = [
        replace(good, request_id="long", prompt="x" * 200),
        good,
        replace(good, request_id="missing", adapters=("/no/such/adapter",)),
        replace(good, request_id="broken", adapters=(str(broken),)),
        replace(good, request_id="empty", prompt=""),
        replace(good, request_id="zero", max_tokens=0),
        replace(good, request_id="top_p", top_p=0.0),
    ]
    done: list[int] = []
    answers = generator.generate(requests, done.append)
    assert sum(done) == len(requests)
    assert [answer.request_id for answer in answers] == [r.request_id for r in requests]
    assert answers[1] == generator.generate([good])[0]
    for answer in answers[:1] + answers[2:]:
        assert answer.text is None and answer.logprob is None and answer.error
    assert "200 tokens" in (answers[0].error or "")
    assert "/no/such/adapter" in (answers[2].error or "")


def test_an_adapter_with_nan_fails_alone(
    generator, adapters, model_path, make_adapter, tmp_path
) -> None:
    bad = Path(make_adapter(tmp_path / "nan", model_path, 9))
    tensors = load_file(bad / "adapter_model.safetensors")
    save_file({k: v * float("nan") for k, v in tensors.items()}, bad / "adapter_model.safetensors")
    requests = [
        GenerateRequest("bad", "Hello", (str(bad),), max_tokens=5),
        GenerateRequest("good", "Hello", (adapters["small"],), max_tokens=5),
    ]
    answers = generator.generate(requests)
    assert answers[0].error and "NaN" in answers[0].error
    assert answers[1].text == generator.generate(requests[1:])[0].text


def test_an_adapter_written_again_is_read_again(
    generator, model_path, make_adapter, tmp_path
) -> None:
    path = make_adapter(tmp_path / "a", model_path, 1)
    request = GenerateRequest("a", "Hello", (path,), max_tokens=20)
    first = generator.generate([request])[0]
    make_adapter(tmp_path / "a", model_path, 2, target_modules="all-linear")
    assert generator.generate([request])[0].text != first.text
    assert read_adapter(path)


def test_context_limits_the_answer(generator) -> None:
    request = GenerateRequest("a", "x" * 120, max_tokens=50)
    answer = generator.generate([request])[0]
    assert answer.n_prompt_tokens == 120 and answer.n_tokens <= 8


def test_chat_uses_the_template(generator) -> None:
    chat = GenerateRequest("a", "Hi", max_tokens=5, chat=True)
    plain = GenerateRequest("b", "<|user|>Hi<|assistant|>", max_tokens=5)
    first, second = generator.generate([chat, plain])
    assert (first.text, first.n_prompt_tokens) == (second.text, second.n_prompt_tokens)


def test_score_equals_a_manual_forward(generator, model_path, adapters, loaded) -> None:
    requests = [
        ScoreRequest(f"s{i}", prompt, " answer" * (i + 1), paths)
        for i, (prompt, paths) in enumerate(zip(PROMPTS, stacks(adapters), strict=True))
    ]
    bad = ScoreRequest("bad", "x" * 125, "longer than the context")
    scores = generator.score([*requests, bad])
    assert scores[-1].logprob is None and "context" in (scores[-1].error or "")
    for request, scored in zip(requests, scores[:-1], strict=True):
        prompt = encode_prompt(loaded.codec, request.prompt)
        ids = torch.tensor([prompt + encode_prompt(loaded.codec, request.completion)])
        with torch.inference_mode():
            logprobs = peft_model(model_path, request.adapters)(input_ids=ids).logits.log_softmax(
                -1
            )
        picked = logprobs[0, :-1].gather(1, ids[0, 1:, None])[len(prompt) - 1 :]
        assert scored.n_tokens == len(request.completion)
        assert scored.logprob == pytest.approx(float(picked.sum()), abs=1e-3)


def test_score_of_an_answer_is_its_logprob(generator, adapters) -> None:
    request = GenerateRequest("a", "Hello", (adapters["wide"],), max_tokens=3)
    answer = generator.generate([request])[0]
    assert answer.text is not None
    score = generator.score([ScoreRequest("a", "Hello", answer.text, request.adapters)])[0]
    if score.n_tokens == answer.n_tokens:
        assert score.logprob == pytest.approx(answer.logprob, abs=1e-3)


def test_no_requests(generator) -> None:
    assert generator.generate([]) == [] and generator.score([]) == []
