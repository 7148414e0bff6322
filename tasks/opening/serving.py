"""Opens vLLM for a run whose `engine.kind` is `vllm`; checks first that it can be opened."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from seal_core.config import Config
from seal_core.generation.vllm.checks import check_vllm
from seal_core.generation.vllm.options import PROBE_RANK, VllmOptions
from seal_core.process.process import visible_gpu
from tasks.opening.proving import Serving
from tasks.stages.chatting import chat_settings


def check_serving(config: Config, model_path: str, precision: str) -> str:
    """Checks what `serving` needs, if the run needs it.

    Returns:
        Version of the library that answers.

    Raises:
        InputError: vLLM is not installed, or a server will not do; with the fix.
    """
    if config.engine.kind == "vllm":
        return check_vllm(vllm_options(config, model_path, precision))
    return version("transformers")


@contextmanager
def serving(config: Config, model_path: str, precision: str, log_dir: Path) -> Iterator[Serving]:
    """A generator on vLLM that ends, with its server, with the block."""
    # It imports torch for the tokenizer and the adapters, which only these runs need here.
    module = importlib.import_module("seal_core.generation.vllm.generator")
    options = vllm_options(config, model_path, precision)
    generator = module.VllmGenerator(options, log_dir, config.execution.shard_timeout)
    try:
        yield generator
    finally:
        generator.close()


def server_share(config: Config) -> float:
    """Share of the trainers' GPU that the run's own server takes; 0 if it has others."""
    engine = config.engine
    if engine.kind != "vllm" or engine.servers:
        return 0.0
    own = visible_gpu(config.execution.device)
    # A server that inherits its cards takes the first, unless it is told to use several.
    served = (engine.gpus or visible_gpu("cuda") or "").split(",")
    several = not engine.gpus and any("parallel" in argument for argument in engine.args)
    are_numbers = all(card.isdecimal() for card in (own or "", *served))
    apart = are_numbers and not several and own not in served
    return 0.0 if apart else engine.gpu_memory_utilization


def vllm_options(config: Config, model_path: str, precision: str) -> VllmOptions:
    """The engine's options; the largest adapter is the policy's with an edit's on top."""
    engine = config.engine
    policy_rank = config.update.rank if config.run.rounds else 0
    return VllmOptions(
        model_path=model_path,
        model_name=config.model.path,
        dtype=precision,
        servers=engine.servers,
        python=engine.python,
        # The engine is tried with two small adapters at once.
        max_rank=max(policy_rank + config.finetune.rank, 2 * PROBE_RANK),
        adapter_slots=engine.adapter_slots,
        adapter_folder=engine.adapter_folder,
        gpus=engine.gpus,
        gpu_memory_utilization=engine.gpu_memory_utilization,
        max_model_len=engine.max_model_len,
        start_timeout=engine.start_timeout,
        request_timeout=engine.request_timeout,
        args=engine.args,
        chat=chat_settings(config),
    )
