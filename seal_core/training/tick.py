"""Describes the batch of one forward and backward pass to the layers that take part in it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from seal_core.training.layout import Layout


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
        layout: How to bring the adapters into one batched product; None to go one by one.
    """

    slots: tuple[int, ...]
    lengths: tuple[int, ...]
    scales: tuple[float, ...]
    anchor: torch.Tensor
    dropout: tuple[RowDropout, ...] = ()
    layout: Layout | None = None

    def filled(self) -> Layout:
        """The layout, which a batched product needs."""
        if self.layout is None:
            raise ValueError("a batched product needs the tick's layout")
        return self.layout
