"""Sends numbers that the host has planned to the device, without waiting for what it still does."""

from __future__ import annotations

import torch


def sent(planned: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor of the CPU on the device; on a GPU the copy takes its turn in the stream."""
    if device.type != "cuda":
        return planned.to(device)
    # Of other memory than pinned the copy would wait until the GPU has nothing left to do.
    return planned.pin_memory().to(device, non_blocking=True)
