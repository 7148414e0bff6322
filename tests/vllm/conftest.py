"""A real vLLM server on the CPU, shared by the tests that do not harm it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import peft
import pytest
import torch

from seal_core.errors import InputError
from seal_core.generation.vllm.generator import VllmGenerator
from seal_core.generation.vllm.options import VllmOptions, find_vllm
from seal_core.minilm import weights_path
from seal_core.models.loading import load_model

os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")

SETTINGS = {"gpu_memory_utilization": 0.1, "adapter_slots": 4}
"""Small enough for a shared machine; fewer slots than the tests have stacks."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.vllm)


@pytest.fixture(scope="session")
def vllm_python() -> str:
    """The interpreter that has vLLM."""
    try:
        return str(Path(find_vllm().python).absolute())
    except InputError as error:
        pytest.fail(f"{error}; `make test-vllm` installs it first")


@pytest.fixture(scope="session")
def model() -> str:
    """The embedded model: heads of 32, an end token, 997 tokens."""
    return str(weights_path())


@pytest.fixture(scope="session")
def generator(
    vllm_python: str, model: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[VllmGenerator]:
    options = VllmOptions(model, python=vllm_python, max_rank=24, **SETTINGS)
    engine = VllmGenerator(options, tmp_path_factory.mktemp("log"), timeout=600)
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def make_adapter(model: str) -> Callable[..., str]:
    """Saves an adapter as PEFT itself does, with random A and B."""

    def save(folder: Path, seed: int, **lora: object) -> str:
        config = peft.LoraConfig(**{"lora_alpha": 16.0, "target_modules": "all-linear", **lora})  # pyright: ignore[reportArgumentType]
        wrapped = peft.get_peft_model(load_model(model).model, config)
        random = torch.Generator().manual_seed(seed)
        for name, weight in wrapped.named_parameters():
            if "lora_" in name:
                weight.data = torch.randn(weight.shape, generator=random) * 0.1
        wrapped.save_pretrained(str(folder))
        return str(folder)

    return save


@pytest.fixture(scope="session")
def stacks(
    make_adapter: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> list[tuple[str, ...]]:
    """The base model, a policy, edits on it and on the base; of unlike ranks and targets."""
    root = tmp_path_factory.mktemp("adapters")
    policy = make_adapter(root / "policy", 1, r=16, lora_alpha=32.0)
    edits = [
        make_adapter(root / "edit0", 2, r=8),
        make_adapter(root / "edit1", 3, r=8, target_modules=["q_proj", "down_proj"]),
        make_adapter(root / "edit2", 4, r=3, use_rslora=True, target_modules=["up_proj"]),
    ]
    alone: list[tuple[str, ...]] = [(), (policy,), *((edit,) for edit in edits)]
    return alone + [(policy, edit) for edit in edits]
