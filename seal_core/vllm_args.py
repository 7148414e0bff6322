"""Refuses arguments of `vllm serve` that change what is answered; without torch."""

from __future__ import annotations

from collections.abc import Sequence

# Families: `--lora` stands for `--lora-dtype` too.
_OF_THE_MODEL = (
    *("--model", "--revision", "--code-revision", "--dtype", "--quantization", "--config"),
    *("--hf-overrides", "--hf-config-path", "--load-format", "--tokenizer"),
    *("--kv-cache-dtype", "--mamba-cache-dtype", "--mamba-ssm-cache-dtype", "--lora", "--spec"),
    *("--enable-mamba-cache-stochastic-rounding", "--disable-sliding-window"),
    *("--swa-bounded-replay", "--skip-tokenizer-init"),
    *("--generation-config", "--override-generation-config", "--chat-template", "--runner"),
    *("--convert", "--logits-processors", "--logprobs-mode", "--worker", "--scheduler-cls"),
    *("--weight-transfer-config", "--watermark-config", "--diffusion-config"),
)
_SHORT_OF_THE_MODEL = ("-q", "-sc", "-dc")
_OF_MEMORY = (
    *("--gpu-memory-utilization", "--device-memory-utilization", "--kv-cache-memory-bytes"),
    "--num-gpu-blocks-override",
)
_SHORTEST = len("--gpu")
"""What is shorter begins several names, and vLLM refuses it."""


def check_args(args: Sequence[str]) -> None:
    """Passes if the arguments leave the model as it is.

    Raises:
        ValueError: One would change its answers, and be in no cache key; or the trainers would
            not know of the memory that is taken.
    """
    for arg in args:
        # vLLM takes beginnings of names, parts of JSON (`--hf-overrides.x`) and `-qfp8` too.
        name = arg.partition("=")[0].partition(".")[0].replace("_", "-")
        if len(name) >= _SHORTEST and any(own.startswith(name) for own in _OF_MEMORY):
            raise ValueError(
                f"engine.args has {name}: set engine.gpu_memory_utilization, which the trainers "
                "heed as well"
            )
        if arg.startswith(_SHORT_OF_THE_MODEL) or (
            name.startswith("--")
            and any(own.startswith(name) or name.startswith(own) for own in _OF_THE_MODEL)
        ):
            raise ValueError(
                f"engine.args has {name}, which changes what is answered and would be in no "
                "cache key: set model.path, model.revision or model.dtype instead"
            )
