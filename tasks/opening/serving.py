"""The engine that answers beside the trainers' processes: checked before a run, then opened."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from seal_core.config import Config
from seal_core.engines import Engine, Generator, ModelInUse
from seal_core.generation.vllm.options import PROBE_RANK
from seal_core.gpus import visible_gpu
from seal_core.kinds.chosen import make_engine
from tasks.stages.chatting import chat_settings


def check_serving(config: Config, model_path: str, precision: str) -> str:
    """Checks what the run's engine needs.

    Returns:
        Version of the library that answers.

    Raises:
        InputError: It cannot be opened here; with the fix.
    """
    engine = make_engine(config)
    if engine is None:
        return version("transformers")
    return engine.check(model_in_use(config, model_path, precision))


@contextmanager
def serving(
    engine: Engine, config: Config, model_path: str, precision: str, log_dir: Path
) -> Iterator[Generator]:
    """A generator of an engine that ends, with its servers, with the block."""
    model = model_in_use(config, model_path, precision)
    generator = engine.open(model, log_dir, config.execution.shard_timeout)
    try:
        yield generator
    finally:
        generator.close()


def server_share(config: Config) -> float:
    """Share of the trainers' GPU that the run's engine takes for itself."""
    engine = make_engine(config)
    return engine.memory_share(visible_gpu(config.execution.device)) if engine else 0.0


def model_in_use(config: Config, model_path: str, precision: str) -> ModelInUse:
    """What an engine has to answer with; the largest adapter is the policy's and an edit's."""
    policy_rank = config.update.rank if config.run.rounds else 0
    return ModelInUse(
        path=model_path,
        name=config.model.path,
        dtype=precision,
        chat=chat_settings(config),
        # The engine is tried with two small adapters at once.
        max_rank=max(policy_rank + config.finetune.rank, 2 * PROBE_RANK),
    )
