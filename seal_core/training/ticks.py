"""Runs one forward and backward pass over the next rows of several adapters."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from seal_core.models.loading import LoadedModel
from seal_core.models.text.tokens import EncodedRow
from seal_core.training.checkpoints import can_checkpoint, set_checkpoints
from seal_core.training.layout import Layout
from seal_core.training.packing import packed
from seal_core.training.row_logits import packed_logits, padded_logits, tick_tokens
from seal_core.training.slots.lora_slots import LoraSlots
from seal_core.training.slots.transfer import sent
from seal_core.training.tick import RowDropout, Tick


@dataclass(frozen=True, slots=True)
class Share:
    """What one adapter puts into a tick.

    Attributes:
        n_targets: Tokens that carry loss.
        scale: alpha / rank.
        generator: Source of the adapter's dropout.
    """

    slot: int
    rows: Sequence[EncodedRow]
    n_targets: int
    scale: float
    dropout: float
    generator: torch.Generator


class TickRunner:
    """The passes over one model with its slots in place; a context manager.

    Args:
        checkpoint: Compute each layer's activations twice instead of keeping them.
        pack: Pack the rows; else pad them. See `row_logits`.
    """

    def __init__(
        self, loaded: LoadedModel, slots: LoraSlots, checkpoint: bool, pack: bool = True
    ) -> None:
        self.pack = pack
        self._loaded = loaded
        self._slots = slots
        self._anchor = torch.zeros(1, device=loaded.device, requires_grad=True)
        self._stack = contextlib.ExitStack()
        self._checkpoints = False
        self._wants_checkpoints = checkpoint

    def __enter__(self) -> TickRunner:
        if self.pack:
            self._stack.enter_context(packed(self._loaded.model))
        self._stack.callback(set_checkpoints, self._loaded.model, False)
        if self._wants_checkpoints:
            self.checkpoint()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def checkpoint(self) -> bool:
        """From now on keeps only each layer's input; False if it did, or the model cannot."""
        if self._checkpoints or not can_checkpoint(self._loaded.model):
            return False
        self._checkpoints = True
        set_checkpoints(self._loaded.model, True)
        return True

    def run(self, shares: Sequence[Share]) -> torch.Tensor:
        """Fills the slots' gradients.

        Returns:
            Each adapter's mean loss per target token `[adapters]`, nats, on the model's device.

        Raises:
            torch.OutOfMemoryError: The tick is too large; nothing but gradients has changed.
        """
        states = [share.generator.get_state() for share in shares]
        try:
            self._slots.begin(self._tick(shares))
            total, losses = self._losses(shares)
            total.backward()
            return losses
        except torch.OutOfMemoryError:
            for share, state in zip(shares, states, strict=True):
                share.generator.set_state(state)
            raise
        finally:
            self._slots.end()

    def _tick(self, shares: Sequence[Share]) -> Tick:
        lengths = tick_tokens([share.rows for share in shares], self.pack)
        longest = max(len(row.ids) for share in shares for row in share.rows)
        scales = tuple(share.scale for share in shares)
        dropout = [
            RowDropout(
                share.dropout,
                len(row.ids),
                _seed(share.generator) if share.dropout else 0,
                0 if self.pack else longest - len(row.ids),
            )
            for share in shares
            for row in share.rows
        ]
        device = self._loaded.device
        return Tick(
            slots=tuple(share.slot for share in shares),
            lengths=lengths,
            scales=scales,
            anchor=self._anchor,
            dropout=tuple(dropout) if any(own.share for own in dropout) else (),
            layout=Layout.build(lengths, scales, device, self._slots.dtype)
            if self._slots.together
            else None,
        )

    def _losses(self, shares: Sequence[Share]) -> tuple[torch.Tensor, torch.Tensor]:
        """The sum of all adapters' losses, to differentiate, and each one's `[adapters]`."""
        rows = [row for share in shares for row in share.rows]
        if self.pack:
            logits = packed_logits(self._loaded, rows, few_calls=self._slots.together)
        else:
            logits = padded_logits(self._loaded, rows)
        targets = [token for row in rows for token in row.ids[row.n_context :]]
        logits = logits if logits.dtype == torch.float64 else logits.float()
        losses = functional.cross_entropy(
            logits, sent(torch.tensor(targets), logits.device), reduction="none"
        )
        counts = [share.n_targets for share in shares]
        if self._slots.together:
            return _weighted(losses, counts)
        means = torch.stack([own.mean() for own in losses.split(counts)])
        return means.sum(), means.detach()


def _weighted(values: torch.Tensor, counts: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """The sum of the means of neighbours, and the means, without a call for any of them.

    Args:
        values: `[sum of counts]`.
    """
    n, device = torch.tensor(counts), values.device
    place = torch.arange(max(counts))
    outside = place[None] >= n[:, None]
    index = (n.cumsum(0) - n)[:, None] + torch.minimum(place[None], n[:, None] - 1)
    each = n.double().reciprocal()
    shares = sent(each.repeat_interleave(n).to(values.dtype), device)
    spread = values.detach().index_select(0, sent(index.flatten(), device)).view(index.shape)
    sums = spread.masked_fill_(sent(outside, device), 0.0).sum(dim=1)
    return (values * shares).sum(), sums * sent(each.to(values.dtype), device)


def _seed(generator: torch.Generator) -> int:
    return int(torch.randint(2**62, (), generator=generator))
