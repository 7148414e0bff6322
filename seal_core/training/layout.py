"""Brings the adapters of one stream of tokens into a shape that one batched product takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from seal_core.training.slots.transfer import sent


@dataclass(slots=True, weakref_slot=True)
class Layout:
    """Adapters' tokens filled up to the same number.

    Attributes:
        shape: Adapters and tokens of each, filling included.
        gather: Place in the stream of each place in the layout.
        filling: True where a place is filling `[adapters, tokens, 1]`; None if none is.
        scatter: Place in the layout of each token of the stream.
        scales: alpha / rank `[adapters, 1, 1]`.
    """

    shape: tuple[int, int]
    gather: torch.Tensor
    filling: torch.Tensor | None
    scatter: torch.Tensor
    scales: torch.Tensor
    _last: tuple[object, torch.Tensor, torch.Tensor] | None = None

    @classmethod
    def build(
        cls,
        lengths: Sequence[int],
        scales: Sequence[float],
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ) -> Layout:
        """Plans the layout for adapters with these numbers of tokens.

        Args:
            dtype: Of the products.
        """
        n, longest = len(lengths), max(lengths)
        counts = torch.tensor(lengths)
        place = torch.arange(longest)
        starts = (counts.cumsum(0) - counts)[:, None]
        filling = place[None] >= counts[:, None]
        gather = starts + torch.minimum(place[None], counts[:, None] - 1)
        scatter = (~filling).flatten().nonzero()[:, 0]
        return cls(
            (n, longest),
            sent(gather.flatten(), device),
            sent(filling[:, :, None], device) if min(lengths) < longest else None,
            sent(scatter, device),
            sent(torch.tensor(scales, dtype=torch.float64)[:, None, None].to(dtype), device),
        )

    def spread(self, x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """`[tokens, size]` to `[adapters, tokens, size]`; filling repeats an adapter's last token.

        What was spread last is kept: the layers that read the same input follow one another.
        """
        key = (x.data_ptr(), x.shape, x.stride(), x.dtype, x._version, dtype)
        if self._last is None or self._last[0] != key:
            # Without its graph, which holds this layout, also by a view.
            plain = x.detach()
            # The input is kept as well, so that its memory is nobody else's.
            self._last = (key, plain, self._filled(plain).to(dtype))
        return self._last[2]

    def spread_gradient(self, gradient: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """The same with zeros where there is no token."""
        spread = self._filled(gradient)
        if self.filling is not None:
            spread.masked_fill_(self.filling, 0)
        return spread.to(dtype)

    def collect(self, spread: torch.Tensor) -> torch.Tensor:
        """The tokens' `[tokens, size]` of `[adapters, tokens, size]`."""
        stream = spread.view(-1, spread.shape[2])
        return stream if self.filling is None else stream.index_select(0, self.scatter)

    def _filled(self, x: torch.Tensor) -> torch.Tensor:
        filled = x if self.filling is None else x.index_select(0, self.gather)
        return filled.view(*self.shape, x.shape[1])
