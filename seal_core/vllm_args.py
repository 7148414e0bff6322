"""Refuses arguments of `vllm serve` that change what is answered; without torch."""

from __future__ import annotations

from collections.abc import Sequence

_OF_THE_MODEL = (
    *("--model", "--revision", "--dtype", "--quantization", "--hf-overrides", "--config"),
    *("--kv-cache-dtype", "--load-format", "--tokenizer", "--speculative-config"),
)


_MEMORY = "--gpu-memory-utilization"


def check_args(args: Sequence[str]) -> None:
    """Passes if the arguments leave the model as it is.

    Raises:
        ValueError: One would change its answers, and be in no cache key; or the trainers would
            not know of the memory that is taken.
    """
    for arg in args:
        # vLLM takes beginnings of names, parts of JSON (`--hf-overrides.x`) and `-qfp8` too.
        name = arg.partition("=")[0].partition(".")[0].replace("_", "-")
        if len(name) > len("--gpu") and _MEMORY.startswith(name):
            raise ValueError(
                f"engine.args has {name}: set engine.gpu_memory_utilization, which the trainers "
                "heed as well"
            )
        if arg.startswith("-q") or (
            name.startswith("--") and any(own.startswith(name) for own in _OF_THE_MODEL)
        ):
            raise ValueError(
                f"engine.args has {name}, which changes what is answered and would be in no "
                "cache key: set model.path, model.revision or model.dtype instead"
            )
