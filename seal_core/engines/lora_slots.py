"""Holds the trainable A and B of many adapters at once, one row of a bank per adapter.

Every targeted linear layer computes `base(x) + s (x A^T) B^T` with the A, B and scale of the
adapter that a batch row belongs to. An adapter's weights are one contiguous row, so clipping
and AdamW run over it in one call, and never touch an adapter that is not in the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from seal_core.engines.lora_layers import Weights


@dataclass(frozen=True, slots=True)
class RowDropout:
    """Dropout of one batch row: its own stream of random numbers, over its own tokens."""

    share: float
    n_tokens: int
    generator: torch.Generator


@dataclass(frozen=True, slots=True)
class Block:
    """Where one module's A `[rank, in]` and B `[out, rank]` stand in a bank's row."""

    start: int
    rank: int
    n_in: int
    n_out: int

    @property
    def middle(self) -> int:
        """End of A, start of B."""
        return self.start + self.rank * self.n_in

    @property
    def end(self) -> int:
        """End of B."""
        return self.middle + self.n_out * self.rank

    def split(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """A `[n, rank, in]` and B `[n, out, rank]` as views of rows `[n, width]`."""
        a = rows[:, self.start : self.middle].unflatten(1, (self.rank, self.n_in))
        b = rows[:, self.middle : self.end].unflatten(1, (self.n_out, self.rank))
        return a, b


class SlotLinear(nn.Module):
    """A frozen linear layer plus each batch row's own trainable delta."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        self.tick: Tick | None = None
        self.a: torch.Tensor | None = None
        self.b: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Adds the deltas to the base layer's output; x is `[rows, tokens, in]`."""
        y = self.base(x)
        tick, a, b = self.tick, self.a, self.b
        if tick is None or a is None or b is None:
            return y
        if tick.owners is not None:
            a, b = a.index_select(0, tick.owners), b.index_select(0, tick.owners)
        # As PEFT does: the delta in the adapter's precision, the sum in the model's.
        x = _dropped(x.to(a.dtype), tick.dropout)
        inner = torch.bmm(x, a.transpose(1, 2)) * tick.scales
        return (y + torch.bmm(inner, b.transpose(1, 2))).to(y.dtype)


@dataclass(frozen=True, slots=True)
class Tick:
    """The adapters of one batch.

    Attributes:
        owners: Place in the batch's adapters, by batch row; None if row i is adapter i's.
        scales: alpha / rank `[rows, 1, 1]`.
        dropout: By batch row; empty when no adapter has any.
    """

    owners: torch.Tensor | None
    scales: torch.Tensor
    dropout: tuple[RowDropout, ...]


class LoraSlots:
    """A bank `[slots, width]` of adapters with the same targets, and their model's layers.

    Adapters of a lower rank are filled up with zeros, which get zero gradients and so stay.
    """

    def __init__(
        self, model: Any, modules: Sequence[str], rank: int, n_slots: int, dtype: torch.dtype
    ) -> None:
        self._model = model
        self._layers: dict[str, SlotLinear] = {}
        self._blocks: dict[str, Block] = {}
        width = 0
        device = None
        for name in sorted(modules):
            base = model.get_submodule(name)
            block = Block(width, rank, base.in_features, base.out_features)
            self._layers[name] = SlotLinear(base)
            model.set_submodule(name, self._layers[name])
            self._blocks[name] = block
            width, device = block.end, base.weight.device
        self._bank = torch.zeros(n_slots, width, dtype=dtype, device=device)

    @property
    def n_slots(self) -> int:
        """Adapters that fit at once."""
        return self._bank.shape[0]

    def row(self, slot: int) -> torch.Tensor:
        """The slot's weights `[width]`, a view."""
        return self._bank[slot]

    def write(self, slot: int, weights: Weights) -> None:
        """Sets a slot's adapter."""
        self._bank[slot].zero_()
        for name, (a, b) in weights.items():
            own_a, own_b = self._blocks[name].split(self._bank[slot : slot + 1])
            own_a[0, : a.shape[0]].copy_(a)
            own_b[0, :, : b.shape[1]].copy_(b)

    def read(self, slot: int, rank: int) -> Weights:
        """A copy of a slot's adapter, without the filling."""
        weights = {}
        for name, block in self._blocks.items():
            a, b = block.split(self._bank[slot : slot + 1])
            weights[name] = a[0, :rank].clone(), b[0, :, :rank].clone()
        return weights

    def begin(self, slots: Sequence[int], tick: Tick) -> torch.Tensor:
        """Puts these slots' adapters into the layers.

        Returns:
            `[slots, width]`, which the backward pass fills with each adapter's gradient.
        """
        rows = self._bank[list(slots)]
        gradients = torch.zeros_like(rows)
        for name, layer in self._layers.items():
            block = self._blocks[name]
            a, b = (part.detach().requires_grad_() for part in block.split(rows))
            # Gradients are added in place, into the views of one tensor.
            a.grad, b.grad = block.split(gradients)
            layer.tick, layer.a, layer.b = tick, a, b
        return gradients

    def end(self) -> None:
        """Lets go of the batch's adapters."""
        for layer in self._layers.values():
            layer.tick = layer.a = layer.b = None

    def remove(self) -> None:
        """Gives the model its plain layers back."""
        for name, layer in self._layers.items():
            self._model.set_submodule(name, layer.base)


def _dropped(x: torch.Tensor, dropout: Sequence[RowDropout]) -> torch.Tensor:
    if not dropout:
        return x
    keep = torch.ones_like(x)
    for row, own in enumerate(dropout):
        # Drawn over the row's own tokens, so that padding shifts no random number.
        drawn = torch.rand(own.n_tokens, x.shape[2], generator=own.generator)
        mask = (drawn >= own.share) / (1 - own.share)
        keep[row, : own.n_tokens] = mask.to(x)
    return x * keep
