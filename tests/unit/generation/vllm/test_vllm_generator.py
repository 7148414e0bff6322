"""The vLLM engine against a scripted server: each request is answered with its own adapters.

What a real vLLM answers is tested in tests/vllm.
"""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path

from safetensors.torch import load_file, save_file

from seal_core.engines import GenerateRequest, ScoreRequest
from tests import scripted_vllm
from tests.waves import texts, wave


def paths(script: Path) -> Counter[str]:
    return Counter(request["path"] for request in scripted_vllm.requests(script))


def test_each_request_is_answered_with_its_own_adapters(open_vllm, script, adapters) -> None:
    requests = wave(adapters)
    done: list[int] = []
    answers = open_vllm(adapter_slots=4).generate(requests, done.append)
    assert [answer.request_id for answer in answers] == [request.request_id for request in requests]
    assert sum(done) == len(requests)
    assert all(
        (answer.text or "")[1:] == r.prompt for answer, r in zip(answers, requests, strict=True)
    )
    first = {
        request.adapters: answer.text[0]
        for request, answer in zip(requests, answers, strict=True)
        if answer.text
    }
    assert len(set(first.values())) == 4
    assert all(
        (a.text or "")[0] == first[r.adapters] for a, r in zip(answers, requests, strict=True)
    )
    one = answers[0]
    assert (one.n_prompt_tokens, one.n_tokens, one.logprob) == (8, 10, -5.0)
    sent = [r["body"] for r in scripted_vllm.requests(script) if r["path"] == "completions"]
    assert sorted(body["seed"] for body in sent) == sorted(r.seed for r in requests)
    assert all(body["stop_token_ids"] == [256] and body["top_k"] == 0 for body in sent)


def test_adapters_are_unloaded_and_never_more_than_the_slots(open_vllm, script, adapters) -> None:
    generator = open_vllm(adapter_slots=2)
    generator.generate(wave(adapters))
    generator.generate(wave(adapters))
    log = scripted_vllm.requests(script)
    assert max(len(request["loaded"]) for request in log) == 2
    loaded = [r["body"]["lora_name"] for r in log if r["path"] == "load_lora_adapter"]
    unloaded = [r["body"]["lora_name"] for r in log if r["path"] == "unload_lora_adapter"]
    assert sorted(loaded) == sorted(unloaded)
    assert set(Counter(loaded).values()) == {2}
    assert not any(Path(r["body"]["lora_path"]).exists() for r in log if "lora_path" in r["body"])


def test_several_threads_share_an_adapter(open_vllm, script, adapters) -> None:
    generator = open_vllm()
    requests = [GenerateRequest(str(i), f"{i}", (adapters["wide"],)) for i in range(20)]
    expected = texts(generator.generate(requests))
    results: list[list[str | None]] = []
    threads = [
        threading.Thread(target=lambda: results.append(texts(generator.generate(requests))))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [expected] * 4
    assert paths(script)["load_lora_adapter"] == paths(script)["unload_lora_adapter"] <= 5


def test_bad_requests_and_adapters_are_errors_of_their_own(
    open_vllm, adapters, make_adapter, make_model, tmp_path
) -> None:
    broken = make_adapter(tmp_path / "nan", make_model(tmp_path / "m"), 5)
    weights = load_file(f"{broken}/adapter_model.safetensors")
    next(iter(weights.values()))[0, 0] = float("nan")
    save_file(weights, f"{broken}/adapter_model.safetensors")
    huge = make_adapter(tmp_path / "huge", make_model(tmp_path / "o"), 8)
    scaled = {n: w * 1e9 for n, w in load_file(f"{huge}/adapter_model.safetensors").items()}
    save_file(scaled, f"{huge}/adapter_model.safetensors")
    other = make_adapter(tmp_path / "other", make_model(tmp_path / "n", hidden_size=64), 6)
    large = make_adapter(tmp_path / "large", make_model(tmp_path / "l"), 7, r=24)
    head = make_adapter(
        tmp_path / "head", make_model(tmp_path / "h"), 7, target_modules=["q_proj", "lm_head"]
    )
    requests = [
        GenerateRequest("fine", "x", (adapters["small"],)),
        GenerateRequest("nan", "x", (adapters["small"], broken)),
        GenerateRequest("huge", "x", (huge,)),
        GenerateRequest("other", "x", (other,)),
        GenerateRequest("rank", "x", (large,)),
        GenerateRequest("head", "x", (head,)),
        GenerateRequest("missing", "x", (str(tmp_path / "none"),)),
        GenerateRequest("long", "x" * 128),
        GenerateRequest("tokens", "x", max_tokens=0),
    ]
    answers = {answer.request_id: answer for answer in open_vllm().generate(requests)}
    words = {
        "nan": "NaN or infinite",
        "huge": "NaN or infinite",
        "other": "made for another model",
        "rank": "rank 24",
        "head": "lm_head",
        "missing": "cannot read",
        "long": "128 tokens",
        "tokens": "max_tokens is 0",
    }
    assert answers["fine"].error is None
    for name, word in words.items():
        assert answers[name].text is None
        assert word in (answers[name].error or ""), answers[name]


def test_scores_are_those_of_the_completion(open_vllm, adapters) -> None:
    requests = [
        ScoreRequest("a", "Hello", " you", (adapters["small"],)),
        ScoreRequest("b", "Hello", ""),
        ScoreRequest("c", "x" * 100, "y" * 28),
    ]
    fine, empty, long = open_vllm().score(requests)
    assert (fine.logprob, fine.n_tokens, fine.error) == (-1.0, 4, None)
    assert empty.logprob is None and "no tokens" in (empty.error or "")
    assert long.logprob is None and "128 tokens" in (long.error or "")


def test_running_servers_share_the_work(open_vllm, running, script, adapters) -> None:
    generator = open_vllm(servers=(running(), running()))
    alone = [GenerateRequest(str(i), f"{i}", (adapters["wide"],)) for i in range(10)]
    assert len(texts(generator.generate(alone))) == 10
    loads = [r for r in scripted_vllm.requests(script) if r["path"] == "load_lora_adapter"]
    assert len(loads) == 2
