"""The product at the heart of training: one frozen linear layer, many adapters, one stream.

Gradients of A and B are written straight to their place in the bank, so nothing of an
adapter's size is allocated, filled with zeros or added up in a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from seal_core.models.linear import matrix


@dataclass(slots=True)
class Pair:
    """One module's weights of one adapter, views of the bank.

    Attributes:
        a, b: `[rank, in]` and `[out, rank]`.
        grad_a, grad_b: Their gradients.
        a_t, b_t: Transposed views, made once.
        is_fresh: No gradient was written yet in this tick, so the first one replaces the last
            tick's; a module that is used twice adds to it.
    """

    a: torch.Tensor
    b: torch.Tensor
    grad_a: torch.Tensor
    grad_b: torch.Tensor
    is_fresh: bool = True
    a_t: torch.Tensor = field(init=False)
    b_t: torch.Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.a_t, self.b_t = self.a.t(), self.b.t()

    def clear_if_fresh(self) -> None:
        """The gradient of a module that the tick did not reach is zero."""
        if self.is_fresh:
            self.grad_a.zero_()
            self.grad_b.zero_()


@dataclass(frozen=True, slots=True)
class RowDropout:
    """Dropout of one row in one tick, over its own tokens and none of the padding behind them.

    A seed and no stream of numbers: a layer that computes its activations a second time must
    drop the same ones.
    """

    share: float
    n_tokens: int
    seed: int
    n_padding: int = 0


@dataclass(frozen=True, slots=True)
class Tick:
    """The adapters of one batch, and their shares of its stream of tokens.

    Attributes:
        slots: By adapter, in the order of the stream.
        lengths: Tokens of each adapter, all its rows together.
        scales: alpha / rank of each adapter.
        anchor: A tensor `[1]` that requires a gradient, so that the first layers, whose input
            has none, take part in the backward pass.
        dropout: By row; empty when no adapter has any.
        layout: How to bring the adapters into one batched product; None to go one by one,
            which is faster on a CPU.
    """

    slots: tuple[int, ...]
    lengths: tuple[int, ...]
    scales: tuple[float, ...]
    anchor: torch.Tensor
    dropout: tuple[RowDropout, ...] = ()
    layout: Layout | None = None


@dataclass(frozen=True, slots=True)
class Layout:
    """Adapters' tokens filled up to the same number, for batched products on a GPU.

    Attributes:
        shape: Adapters and tokens of each, filling included.
        gather: Place in the stream of each place in the layout.
        filling: True where a place is filling `[adapters, tokens, 1]`.
        scatter: Place in the layout of each token of the stream.
        scales: `[adapters, 1, 1]`.
    """

    shape: tuple[int, int]
    gather: torch.Tensor
    filling: torch.Tensor
    scatter: torch.Tensor
    scales: torch.Tensor

    @classmethod
    def build(cls, lengths: Sequence[int], scales: Sequence[float], device: torch.device) -> Layout:
        """Plans the layout for adapters with these numbers of tokens."""
        n, longest = len(lengths), max(lengths)
        counts = torch.tensor(lengths)
        place = torch.arange(longest)
        starts = (counts.cumsum(0) - counts)[:, None]
        filling = place[None] >= counts[:, None]
        gather = (starts + place[None]).masked_fill(filling, 0)
        scatter = (~filling).flatten().nonzero()[:, 0]
        return cls(
            (n, longest),
            gather.flatten().to(device),
            filling[:, :, None].to(device),
            scatter.to(device),
            torch.tensor(scales, dtype=torch.float32, device=device)[:, None, None],
        )

    def spread(self, x: torch.Tensor) -> torch.Tensor:
        """`[tokens, size]` to `[adapters, tokens, size]`, zeros where there is no token."""
        padded = x.index_select(0, self.gather).unflatten(0, self.shape)
        return padded.masked_fill_(self.filling, 0)

    def collect(self, padded: torch.Tensor) -> torch.Tensor:
        """The inverse of `spread`."""
        return padded.flatten(0, 1).index_select(0, self.scatter)


def adapted(
    x: torch.Tensor, base: nn.Module, pairs: Sequence[Pair], tick: Tick, place: int = 0
) -> torch.Tensor:
    """The layer's output with each adapter's delta on its own tokens.

    Args:
        x: `[tokens, in]`, the tokens of each adapter together.
        pairs: A and B of the tick's adapters, in their order.
        place: The layer's number, which its dropout derives from.

    Returns:
        `[tokens, out]`.
    """
    product = _OneByOne if tick.layout is None else _Batched
    dropped = _dropped(x, tick.dropout, place) if tick.dropout else None
    return product.apply(x, dropped, tick.anchor, base, pairs, tick)


class _OneByOne(torch.autograd.Function):
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
        whole, grad_x, grad_dropped = _targets(ctx, gradient, inputs)
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
        return _returned(grad_x, grad_dropped, whole, gradient.dtype)


class _Batched(torch.autograd.Function):
    """One batched product for all adapters, their tokens filled up to the same number."""

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
        a, b = _stacked([pair.a for pair in pairs]), _stacked([pair.b for pair in pairs])
        layout = _layout(tick)
        inputs = x if dropped is None else dropped
        inner = torch.bmm(layout.spread(inputs).to(a.dtype), a.transpose(1, 2))
        delta = torch.bmm(inner.mul_(layout.scales.to(a.dtype)), b.transpose(1, 2))
        ctx.save_for_backward(inputs, inner)
        ctx.base, ctx.pairs, ctx.tick, ctx.has_dropout = base, pairs, tick, dropped is not None
        return (y + layout.collect(delta)).to(y.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        inputs, inner = ctx.saved_tensors
        gradient, pairs = gradients[0], ctx.pairs
        layout = _layout(ctx.tick)
        a, b = _stacked([pair.a for pair in pairs]), _stacked([pair.b for pair in pairs])
        fine = layout.spread(gradient).to(a.dtype)
        down = torch.bmm(fine, b).mul_(layout.scales.to(a.dtype))
        grads_b = torch.bmm(fine.transpose(1, 2), inner)
        grads_a = torch.bmm(down.transpose(1, 2), layout.spread(inputs).to(a.dtype))
        for place, pair in enumerate(pairs):
            rank = pair.a.shape[0]
            _put(pair, grads_a[place, :rank], grads_b[place, :, :rank])
        whole, grad_x, grad_dropped = _targets(ctx, gradient, inputs.to(a.dtype))
        if whole is not None:
            whole.add_(layout.collect(torch.bmm(down, a)))
        return _returned(grad_x, grad_dropped, whole, gradient.dtype)


def _columns(stream: torch.Tensor, pairs: Sequence[Pair], tick: Tick) -> Sequence[torch.Tensor]:
    """Each adapter's tokens of `[tokens, rank]`, as wide as its own rank."""
    parts = stream.split(tick.lengths)
    if all(pair.a.shape[0] == stream.shape[1] for pair in pairs):
        return parts
    return [part[:, : pair.a.shape[0]] for part, pair in zip(parts, pairs, strict=True)]


def _put(pair: Pair, grad_a: torch.Tensor, grad_b: torch.Tensor) -> None:
    if pair.is_fresh:
        pair.grad_a.copy_(grad_a)
        pair.grad_b.copy_(grad_b)
    else:
        pair.grad_a.add_(grad_a)
        pair.grad_b.add_(grad_b)
    pair.is_fresh = False


def _layout(tick: Tick) -> Layout:
    if tick.layout is None:
        raise ValueError("a batched product needs the tick's layout")
    return tick.layout


def _stacked(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """Weights of all adapters; those of a lower rank are filled up with zeros."""
    shape = [max(part.shape[dim] for part in parts) for dim in (0, 1)]
    if all(list(part.shape) == shape for part in parts):
        return torch.stack(list(parts))
    stacked = parts[0].new_zeros(len(parts), *shape)
    for place, part in enumerate(parts):
        stacked[place, : part.shape[0], : part.shape[1]] = part
    return stacked


def _targets(
    ctx: Any, gradient: torch.Tensor, inputs: torch.Tensor
) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
    """Where the adapters' part of the input's gradient is added to, and what it starts from.

    Returns:
        The tensor to add to, in the adapters' precision; the gradient of the layer's input,
        and that of the input after dropout, of which the first is the second's own when there
        is no dropout.
    """
    if not ctx.needs_input_grad[0]:
        return None, None, None
    grad_x = gradient.mm(matrix(ctx.base))
    if ctx.has_dropout:
        grad_dropped = torch.zeros_like(inputs)
        return grad_dropped, grad_x, grad_dropped
    return grad_x.to(inputs.dtype), grad_x, None


def _returned(
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


def _dropped(x: torch.Tensor, dropout: Sequence[RowDropout], place: int) -> torch.Tensor:
    masks = []
    for own in dropout:
        # Drawn over the row's own tokens, so that no other row shifts a random number.
        generator = torch.Generator(x.device).manual_seed(own.seed + place)
        drawn = torch.rand(own.n_tokens, x.shape[1], generator=generator, device=x.device)
        masks.append((drawn >= own.share) / (1 - own.share))
        if own.n_padding:
            masks.append(torch.ones(own.n_padding, x.shape[1], device=x.device))
    return x * torch.cat(masks).to(x)
