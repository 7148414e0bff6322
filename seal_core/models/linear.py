"""Says what counts as a linear layer, and reads all of them alike."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

_PLAIN = (nn.Linear.forward, Conv1D.forward)
_RELATIVE_ERROR = 0.02
"""Rounding of half precision stays below it; another function than a product does not."""


def is_linear(module: Any) -> bool:
    """Whether a module computes `x W^T + bias` and nothing else, as LoRA takes for granted.

    A subclass with a forward of its own (a router, say) is tried on random numbers.
    """
    if not isinstance(module, (nn.Linear, Conv1D)) or not module.weight.is_floating_point():
        return False
    return type(module).forward in _PLAIN or _computes_product(module)


def shape(module: Any) -> tuple[int, int]:
    """Inputs and outputs."""
    n_out, n_in = matrix(module).shape
    return n_in, n_out


def matrix(module: Any) -> torch.Tensor:
    """The weights as `[out, in]`, a view: GPT-2's `Conv1D` keeps them the other way round."""
    return module.weight.t() if isinstance(module, Conv1D) else module.weight


@torch.no_grad()
def _computes_product(module: Any) -> bool:
    weight = matrix(module)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, weight.shape[1], generator=generator).to(weight)
    try:
        y = module(x)
    except (TypeError, ValueError, RuntimeError, AttributeError):
        return False
    expected = functional.linear(x, weight, module.bias)
    if not isinstance(y, torch.Tensor) or y.shape != expected.shape:
        return False
    error = (y.float() - expected.float()).norm()
    return bool(error <= _RELATIVE_ERROR * expected.float().norm())
