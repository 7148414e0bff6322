"""The adapted layer with small products of each adapter's own, which is fastest on a CPU.

Gradients of A and B are written straight to their place in the bank, so nothing of an
adapter's size is allocated, filled with zeros or added up in a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from seal_core.training.slots.blocks import Pair
from seal_core.training.slots.frozen_layer import input_gradients, returned
from seal_core.training.tick import Tick


class Apart(torch.autograd.Function):
    """A small product per adapter, in place: no padding and no copies."""

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
        y = base(x)
        fine = pairs[0].a.dtype
        # As PEFT does: the delta in the adapter's precision, the sum rounded to the model's.
        inputs = (x if dropped is None else dropped).to(fine)
        total = y.to(fine)
        inner = inputs.new_empty(x.shape[0], max(pair.a.shape[0] for pair in pairs))
        parts = zip(
            inputs.split(tick.lengths),
            _columns(inner, pairs, tick),
            total.split(tick.lengths),
            pairs,
            tick.scales,
            strict=True,
        )
        for own_x, own_inner, own_y, pair, scale in parts:
            torch.mm(own_x, pair.a_t, out=own_inner)
            own_y.addmm_(own_inner, pair.b_t, alpha=scale)
        ctx.save_for_backward(inputs, inner)
        ctx.base, ctx.pairs, ctx.tick, ctx.has_dropout = base, pairs, tick, dropped is not None
        return total.to(y.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        inputs, inner = ctx.saved_tensors
        tick, pairs, gradient = ctx.tick, ctx.pairs, gradients[0]
        fine = gradient.to(inputs.dtype)
        whole, grad_x, grad_dropped = input_gradients(ctx, gradient, inputs.dtype)
        wanted = (None,) * len(pairs) if whole is None else whole.split(tick.lengths)
        parts = zip(
            inputs.split(tick.lengths),
            fine.split(tick.lengths),
            _columns(inner, pairs, tick),
            _columns(torch.empty_like(inner), pairs, tick),
            pairs,
            tick.scales,
            wanted,
            strict=True,
        )
        for own_x, own_y, own_inner, down, pair, scale, own_grad in parts:
            kept = 0.0 if pair.is_fresh else 1.0
            pair.is_fresh = False
            torch.mm(own_y, pair.b, out=down)
            pair.grad_b.addmm_(own_y.t(), own_inner, beta=kept, alpha=scale)
            pair.grad_a.addmm_(down.t(), own_x, beta=kept, alpha=scale)
            if own_grad is not None:
                own_grad.addmm_(down, pair.a, alpha=scale)
        return returned(grad_x, grad_dropped, whole, gradient.dtype)


def _columns(stream: torch.Tensor, pairs: Sequence[Pair], tick: Tick) -> Sequence[torch.Tensor]:
    """Each adapter's tokens of `[tokens, rank]`, as wide as its own rank."""
    parts = stream.split(tick.lengths)
    if all(pair.a.shape[0] == stream.shape[1] for pair in pairs):
        return parts
    return [part[:, : pair.a.shape[0]] for part, pair in zip(parts, pairs, strict=True)]
