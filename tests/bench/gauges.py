"""Reads what a run takes beside seconds: passes over the model, and memory."""

from __future__ import annotations

from typing import Any

import torch


class Passes:
    """Counts a model's passes inside its block, and their tokens, padding included."""

    def __init__(self, model: Any) -> None:
        self._embedding = model.get_input_embeddings()
        self.n = self.tokens = 0

    def __enter__(self) -> Passes:
        self._hook = self._embedding.register_forward_pre_hook(self._count)
        return self

    def __exit__(self, *exception: object) -> None:
        self._hook.remove()

    def _count(self, module: object, inputs: tuple[torch.Tensor, ...]) -> None:
        self.n += 1
        self.tokens += inputs[0].numel()


def reset_peak(device: torch.device) -> None:
    """Starts anew, with nothing held that is not in use."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def held(device: torch.device) -> float:
    """GiB in use now; 0 on a CPU."""
    return torch.cuda.memory_allocated(device) / 2**30 if device.type == "cuda" else 0.0


def peak(device: torch.device, others: float = 0.0) -> float | None:
    """GiB at the highest since the reset, the model included; None on a CPU.

    Args:
        others: GiB that something else holds, which is not counted.
    """
    if device.type != "cuda":
        return None
    return torch.cuda.max_memory_allocated(device) / 2**30 - others
