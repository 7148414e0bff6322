"""The product at the heart of training: one frozen linear layer, many adapters, one stream."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from seal_core.training.slots.blocks import Pair
from seal_core.training.slots.product_apart import Apart
from seal_core.training.slots.product_together import Together
from seal_core.training.tick import RowDropout, Tick


def adapted(
    x: torch.Tensor,
    base: nn.Module,
    weights: Sequence[Pair],
    tick: Tick,
    place: int = 0,
) -> torch.Tensor:
    """The layer's output with each adapter's delta on its own tokens.

    Args:
        x: `[tokens, in]`, the tokens of each adapter together.
        weights: A and B of the tick's adapters, in their order.
        place: The layer's number, which its dropout derives from.

    Returns:
        `[tokens, out]`.
    """
    dropped = _dropped(x, tick.dropout, place) if tick.dropout else None
    product = Apart if tick.layout is None else Together
    return product.apply(x, dropped, tick.anchor, base, weights, tick)


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
