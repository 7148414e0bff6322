"""The frozen layer's part of an adapted layer's backward pass."""

from __future__ import annotations

from typing import Any

import torch

from seal_core.models.linear import matrix


def input_gradients(
    ctx: Any, gradient: torch.Tensor, dtype: torch.dtype
) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
    """Where the adapters' part of the input's gradient is added to, and what it starts from.

    Args:
        dtype: Of the adapters' products.

    Returns:
        The tensor to add to; the gradient of the layer's input,
        and that of the input after dropout, of which the first is the second's own when there
        is no dropout.
    """
    if not ctx.needs_input_grad[0]:
        return None, None, None
    grad_x = gradient.mm(matrix(ctx.base))
    if ctx.has_dropout:
        grad_dropped = torch.zeros_like(grad_x, dtype=dtype)
        return grad_dropped, grad_x, grad_dropped
    return grad_x.to(dtype), grad_x, None


def returned(
    grad_x: torch.Tensor | None,
    grad_dropped: torch.Tensor | None,
    whole: torch.Tensor | None,
    dtype: torch.dtype,
) -> tuple[torch.Tensor | None, ...]:
    """Gradients in the order of the forward's arguments."""
    if whole is None:
        return (None,) * 6
    if grad_dropped is None:
        return (whole.to(dtype), None, None, None, None, None)
    return (grad_x, grad_dropped.to(dtype), None, None, None, None)
