"""Holds a model in single precision for a while."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

HALF = (torch.float16, torch.bfloat16)
_SHARE = 0.8
"""Of the memory that is free, which more than weights must fit in."""


def fits_in_float32(model: Any) -> bool:
    """Whether a model in half precision would fit in memory in single precision."""
    more = sum(tensor.nbytes for tensor in _halves(model))
    if model.device.type == "cuda":
        return more < _SHARE * torch.cuda.mem_get_info(model.device)[0]
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    # Weights on a CPU are mapped files, whose pages may not be in memory yet.
    return 2 * more < _SHARE * free


@contextmanager
def in_float32(model: Any) -> Iterator[None]:
    """Inside, weights and buffers in half precision are in single precision; exact both ways."""
    halves = [(tensor, tensor.dtype) for tensor in _halves(model)]
    configs = {id(c): c for c in (model.config, model.config.get_text_config())}.values()
    told = [(config, config.dtype) for config in configs]
    try:
        for tensor, _ in halves:
            tensor.data = tensor.data.float()
        for config in configs:
            config.dtype = torch.float32
        yield
    finally:
        for tensor, dtype in halves:
            tensor.data = tensor.data.to(dtype)
        for config, dtype in told:
            config.dtype = dtype


def _halves(model: Any) -> list[torch.Tensor]:
    return [t for t in (*model.parameters(), *model.buffers()) if t.dtype in HALF]
