"""Settings of an engine that would be ignored are refused."""

from __future__ import annotations

import math

import pytest
from pydantic import ValidationError

from seal_core.config import EngineSection, FinetuneSection


def test_settings_of_vllm_need_vllm() -> None:
    with pytest.raises(ValidationError, match=r"engine\.servers needs engine\.kind = 'vllm'"):
        EngineSection(servers=("http://localhost:8000",))
    assert EngineSection(adapter_slots=8).kind == "transformers"  # The default may be written out.


def test_running_servers_take_no_settings_of_a_start() -> None:
    with pytest.raises(ValidationError, match=r"engine\.gpus is for a server that is started"):
        EngineSection(kind="vllm", servers=("http://localhost:8000",), gpus="0")


@pytest.mark.parametrize(
    "arg",
    [
        *("--dtype", "--dtype=half", "--hf_overrides={}", "-q"),
        *("-qfp8", "--quant", "--hf-overrides.rope_theta", "--kv-cache-dtype", "--tokenizer"),
        *("--tokenizer-revision", "--lora-dtype=float16", "--mamba-cache-dtype", "--spec-model"),
        *("-sc", "-dc", "-sc={}", "--watermark-config"),
        *("--logprobs-mode=processed_logprobs", "--override-generation-config", "--quantization-c"),
    ],
)
def test_arguments_of_vllm_leave_the_model_as_the_run_identifies_it(arg) -> None:
    with pytest.raises(ValidationError, match=r"engine\.args has .*set model\.path"):
        EngineSection(kind="vllm", args=(arg, "half"))
    assert EngineSection(kind="vllm", args=("--seed", "3")).args == ("--seed", "3")


@pytest.mark.parametrize(
    "arg",
    [
        *("--gpu-memory-utilization=0.9", "--device-memory-utilization", "--device-mem=0.9"),
        *("--gpu=0.9", "--kv-cache-memory-bytes", "--num-gpu-blocks-override"),
    ],
)
def test_the_servers_memory_is_told_to_the_trainers(arg) -> None:
    with pytest.raises(ValidationError, match=r"set engine\.gpu_memory_utilization"):
        EngineSection(kind="vllm", args=(arg,))


@pytest.mark.parametrize("name", ["clip", "weight_decay", "lr", "alpha"])
@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_numbers_are_finite(name, value) -> None:
    with pytest.raises(ValidationError, match="finite number"):
        FinetuneSection(**{name: value})


def test_something_is_trained() -> None:
    with pytest.raises(ValidationError, match="at least 1 item"):
        FinetuneSection(targets=())


def test_published_training_has_its_own_targets_and_can_be_reloaded() -> None:
    with pytest.raises(ValidationError, match=r"leave finetune\.targets out"):
        FinetuneSection(published=True, targets=("q_proj",))
    section = FinetuneSection(published=True)
    assert FinetuneSection(**section.model_dump()) == section
