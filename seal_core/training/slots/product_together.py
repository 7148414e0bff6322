"""The adapted layer with one batched product for all adapters, as a GPU wants it.

No call is made per adapter: a tick's weights are views `[adapters, …]` of one buffer, and so are
their gradients. An adapter's tokens are filled up to those of the longest; filling repeats a token
of the adapter's own, and its gradient is zero, so that nothing of another adapter's, not even a
NaN, gets into a product.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from seal_core.training.slots.blocks import Pair
from seal_core.training.slots.frozen_layer import input_gradients, returned
from seal_core.training.tick import Tick

_HALVES = (torch.bfloat16, torch.float16)


@contextlib.contextmanager
def _tensor_cores(model: torch.dtype) -> Iterator[None]:
    """Lets a GPU multiply float32 on its tensor cores if the model has a 16-bit type.

    TensorFloat-32 keeps 11 bits of a number: all of the tokens' (8 in bfloat16, 11 in float16),
    and of the adapters' weights as many as the model's own at least. Set for our products only:
    rotary embeddings multiply float32 as well, and would take wrong positions.
    """
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    if model in _HALVES:
        matmul.fp32_precision = "tf32"
    try:
        yield
    finally:
        matmul.fp32_precision = before


class Together(torch.autograd.Function):
    """One batched product; there is one pair, of all adapters `[adapters, …]`."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        dropped: torch.Tensor | None,
        _anchor: torch.Tensor,
        base: nn.Module,
        pairs: Sequence[Pair],
        tick: Tick,
    ) -> torch.Tensor:
        y, layout, (stack,) = base(x), tick.filled(), pairs
        inputs = layout.spread(x if dropped is None else dropped, stack.a.dtype)
        with _tensor_cores(x.dtype):
            inner = torch.bmm(inputs, stack.a_t).mul_(layout.scales)
            delta = layout.collect(torch.bmm(inner, stack.b_t))
        ctx.save_for_backward(inputs, inner)
        ctx.base, ctx.stack, ctx.tick, ctx.has_dropout = base, stack, tick, dropped is not None
        return (y + delta).to(y.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        inputs, inner = ctx.saved_tensors
        stack, layout, gradient = ctx.stack, ctx.tick.filled(), gradients[0]
        fine = layout.spread_gradient(gradient, stack.a.dtype)
        with _tensor_cores(gradient.dtype):
            down = torch.bmm(fine, stack.b).mul_(layout.scales)
            _put(stack.grad_b, fine.transpose(1, 2), inner, stack.is_fresh)
            _put(stack.grad_a, down.transpose(1, 2), inputs, stack.is_fresh)
        stack.is_fresh = False
        whole, grad_x, grad_dropped = input_gradients(ctx, gradient, inputs.dtype)
        if whole is not None:
            with _tensor_cores(gradient.dtype):
                whole.add_(layout.collect(torch.bmm(down, stack.a)))
        return returned(grad_x, grad_dropped, whole, gradient.dtype)


def _put(gradient: torch.Tensor, left: torch.Tensor, right: torch.Tensor, is_fresh: bool) -> None:
    """Writes a product to its place, or adds it to what is there."""
    gradient.baddbmm_(left, right, beta=0 if is_fresh else 1)
