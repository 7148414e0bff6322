"""Decides how many adapters and tokens are in training at once, from a stated memory budget.

Pure arithmetic on the model's shapes: equal inputs on equal machines give equal batches, and so
equal bits.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from seal_core.errors import InputError
from seal_core.training.checkpoints import can_checkpoint

_STATES = {False: 4, True: 5}
"""Tensors of an adapter's size: weights, gradient, AdamW's two moments; and by whether adapters are
computed together, a tick's copy of the weights."""

_KEPT = 2.0
"""Bytes that a token keeps for the backward pass, per byte of the linear layers' inputs and
outputs: norms, attention and activations keep about as much again."""

_LOGIT_BYTES = 12
"""Logits, their log-softmax and its gradient, in float32."""

_ADAPTER_SHARE = 0.7
"""Most of the budget that adapters may take; the rest is for tokens."""

_SMALL_TICK = 1024
"""Below this many tokens at once a GPU idles: recomputing activations costs less."""

_CPU_SHARE = 0.2
_CUDA_SHARE = 0.85


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """How a group of jobs is trained.

    Attributes:
        n_adapters: In training at once.
        n_tokens: Of one forward and backward pass, unless a single step needs more.
        checkpoint: Whether layers compute their activations a second time instead of
            keeping them.
    """

    n_adapters: int
    n_tokens: int
    checkpoint: bool


@dataclass(frozen=True, slots=True)
class TokenBytes:
    """Memory of one token in training, with all activations kept, and with checkpoints.

    The two are equal for a model without checkpoints.
    """

    kept: int
    checkpointed: int

    @classmethod
    def of(cls, model: Any, lora: int = 0) -> TokenBytes:
        """From the shapes of the model's layers.

        Args:
            lora: What its adapted layers keep beside them, see `lora_token_bytes`.
        """
        size = model.dtype.itemsize
        head = model.get_output_embeddings()
        layers = [
            m for m in model.modules() if isinstance(m, (nn.Linear, Conv1D)) and m is not head
        ]
        kept = sum(sum(layer.weight.shape) for layer in layers) * _KEPT * size + lora
        config = model.config.get_text_config()
        logits = _LOGIT_BYTES * config.vocab_size
        if not can_checkpoint(model):
            return cls(int(kept + logits), int(kept + logits))
        one_layer = kept / config.num_hidden_layers
        inputs = config.num_hidden_layers * config.hidden_size * size
        return cls(int(kept + logits), int(one_layer + inputs + logits))


def adapter_bytes(
    shapes: Sequence[tuple[int, int]], rank: int, dtype: torch.dtype, together: bool = False
) -> int:
    """Memory of one adapter in training, for layers of these `(in, out)` shapes.

    Args:
        together: See `LoraSlots`.
    """
    n = sum(n_in + n_out for n_in, n_out in shapes) * rank
    return _STATES[together] * n * dtype.itemsize


def lora_token_bytes(
    shapes: Sequence[tuple[int, int]], rank: int, dtype: torch.dtype, filling: float
) -> int:
    """Memory that a token keeps in layers whose adapters are computed together: its input in the
    adapters' type, and the inner product.

    Args:
        filling: Most places in these copies per token.
    """
    return int(filling * sum(n_in + rank for n_in, _ in shapes) * dtype.itemsize)


def default_budget(device: torch.device, server_share: float = 0.0, sharers: int = 1) -> int:
    """Bytes for training on this device when the user states none.

    On a GPU most of what is free beside models and other processes; on a CPU a share of the
    machine's memory, since several engines share it.

    Args:
        server_share: Of the GPU's memory, which a vLLM server takes, or will take.
        sharers: Processes that train on the same GPU at once.

    Raises:
        InputError: Nothing is left for training.
    """
    if device.type != "cuda":
        return int(_CPU_SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    free, total = torch.cuda.mem_get_info(device)
    held = torch.cuda.memory_allocated(device)
    # What the allocator keeps for later is ours to use.
    free += torch.cuda.memory_reserved(device) - held
    budget = int(_CUDA_SHARE * min(free, left_by_server(total, server_share) / sharers - held))
    if budget <= 0:
        raise InputError(
            f"the models take all {held / 2**30:.1f} GiB that this process has of the GPU: lower "
            "engine.gpu_memory_utilization or execution.workers, or target fewer layers"
        )
    return budget


def model_bytes(model: Any, targets: Sequence[str] = ()) -> int:
    """Memory of a model's weights, and of a policy's own copies of the layers of these names."""
    weights = [*model.parameters(), *model.buffers()]
    merged = [model.get_submodule(name).weight for name in targets]
    return sum(tensor.nbytes for tensor in (*weights, *merged))


def check_room(held: int, total: int, server_share: float) -> None:
    """Checks that a model leaves a vLLM server the share of the GPU that it will take.

    Args:
        held: Bytes that the model takes, see `model_bytes`.
        total: Bytes of the GPU.

    Raises:
        InputError: It does not; with the fix.
    """
    left = left_by_server(total, server_share)
    if held >= left:
        raise InputError(
            f"model and policy take {held / 2**30:.1f} GiB, and a vLLM server with "
            f"engine.gpu_memory_utilization = {server_share} leaves {left / 2**30:.1f} GiB of this "
            "GPU to training: lower it, or give the server a GPU of its own with engine.gpus"
        )


def left_by_server(total: int, server_share: float) -> int:
    """Bytes of a GPU that a server with this share of its memory leaves."""
    return int(total * (1 - server_share))


def plan_memory(
    budget: int,
    one_adapter: int,
    token: TokenBytes,
    n_jobs: int,
    longest_step: int,
    max_adapters: int,
    max_tokens: int,
) -> MemoryPlan:
    """As many adapters as fit, then as many tokens; at least one of each, whatever it takes.

    Args:
        budget: Bytes for adapters and activations; the model itself is not counted.
        one_adapter: Bytes of one adapter in training.
        longest_step: Tokens of the largest single step, which cannot be split.
    """
    by_memory = int(_ADAPTER_SHARE * budget) // one_adapter
    n_adapters = max(1, min(n_jobs, max_adapters, by_memory))
    left = budget - n_adapters * one_adapter
    wanted = min(max_tokens, max(longest_step, _SMALL_TICK))
    checkpoint = left < wanted * token.kept
    n_tokens = left // (token.checkpointed if checkpoint else token.kept)
    return MemoryPlan(n_adapters, max(longest_step, min(max_tokens, n_tokens)), checkpoint)
