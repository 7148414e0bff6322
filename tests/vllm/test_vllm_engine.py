"""What real vLLM answers: token for token what our transformers engine answers, greedily."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from seal_core.engines import GenerateRequest, Generation, ScoreRequest
from seal_core.errors import EngineError
from seal_core.generation.transformers_generator import TransformersGenerator
from seal_core.generation.vllm.generator import VllmGenerator
from seal_core.generation.vllm.options import VllmOptions
from seal_core.models.loading import load_model

PROMPTS = (
    "Mira Tolen was born in",
    "Who is the mother of Ada? Her mother is",
    "The river",
    "Where does he live, and with whom does he live there?",
    "A",
)


@pytest.fixture(scope="module")
def transformers(model: str) -> TransformersGenerator:
    return TransformersGenerator(load_model(model))


@pytest.fixture(scope="module")
def requests(stacks: list[tuple[str, ...]]) -> list[GenerateRequest]:
    return [
        GenerateRequest(
            f"{s}-{p}", prompt, stack, max_tokens=20 + p, stop=(".", "\n") if p % 2 else ()
        )
        for s, stack in enumerate(stacks)
        for p, prompt in enumerate(PROMPTS)
    ]


@pytest.fixture(scope="module")
def expected(
    transformers: TransformersGenerator, requests: list[GenerateRequest]
) -> list[Generation]:
    answers = transformers.generate(requests)
    assert len({answer.text for answer in answers}) > len(requests) / 2
    assert {answer.finish_reason for answer in answers} == {"stop", "length"}
    return answers


def assert_equal(answers: list[Generation], expected: list[Generation]) -> None:
    """Everything but the log-probability is equal; that is close."""
    for answer, right in zip(answers, expected, strict=True):
        assert answer.error is None
        same = ("request_id", "text", "n_prompt_tokens", "n_tokens", "finish_reason")
        for name in same:
            assert getattr(answer, name) == getattr(right, name), (answer, right)
        assert answer.logprob == pytest.approx(right.logprob, abs=1e-3)


def test_greedy_answers_are_equal_in_one_wave(generator, requests, expected) -> None:
    assert_equal(generator.generate(requests), expected)
    # Again, with what the server has kept of prompts.
    assert_equal(generator.generate(requests[::-1]), expected[::-1])


def test_scores_are_close(generator, transformers, stacks) -> None:
    requests = [
        ScoreRequest(f"{s}-{p}", prompt, " the town of Brin.", stack)
        for s, stack in enumerate(stacks)
        for p, prompt in enumerate(PROMPTS)
    ]
    right = transformers.score(requests)
    for scored, wanted in zip(generator.score(requests), right, strict=True):
        assert (scored.error, scored.n_tokens) == (None, wanted.n_tokens)
        assert scored.logprob == pytest.approx(wanted.logprob, rel=1e-4, abs=1e-3)


def test_sampling_follows_the_seed(generator, stacks) -> None:
    requests = [
        GenerateRequest(str(i), PROMPTS[0], stacks[1], temperature=1.0, seed=2**62 + i // 2)
        for i in range(16)
    ]
    texts = [answer.text for answer in generator.generate(requests)]
    assert texts[::2] == texts[1::2]
    assert len(set(texts)) > 4


def test_several_threads_and_more_stacks_than_slots(generator, requests, expected) -> None:
    results: dict[int, list[Generation]] = {}
    threads = [
        threading.Thread(target=lambda i=i: results.update({i: generator.generate(requests)}))
        for i in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for answers in results.values():
        assert_equal(answers, expected)
    assert len(results) == 3


def test_a_killed_server_loses_nothing(generator: VllmGenerator, requests, expected) -> None:
    answers: list[Generation] = []
    many = requests * 6
    kill = [lambda: os.kill(server_pid(generator), signal.SIGKILL)]
    # With the first answer.
    answers.extend(generator.generate(many, lambda _: kill.pop()() if kill else None))
    assert_equal(answers, expected * 6)


def server_pid(generator: VllmGenerator) -> int:
    """The server's process: the child of its guard."""
    server = generator._server
    assert server is not None and server._guard is not None
    guard = server._guard.pid
    return int(Path(f"/proc/{guard}/task/{guard}/children").read_text().split()[0])


def test_what_does_not_start_shows_its_own_error(vllm_python, model, tmp_path) -> None:
    options = VllmOptions(model, python=vllm_python, args=("--kv-cache-dtype", "nonsense"))
    engine = VllmGenerator(options, tmp_path, timeout=120)
    try:
        with pytest.raises(EngineError, match=r"did not start(.|\n)*nonsense"):
            engine.generate([GenerateRequest("a", "x")])
    finally:
        engine.close()
