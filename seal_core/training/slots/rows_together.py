"""Steps all adapters of a tick at once, without a call for any single one: what a GPU wants.

The host learns nothing of a step while it is made. An adapter that is no longer finite goes on,
which no other one feels, and its losses say so when they are read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch

from seal_core.training.slots.blocks import Block, Pair
from seal_core.training.slots.row_adamw import RowAdamW
from seal_core.training.slots.slot_step import SlotStep
from seal_core.training.slots.transfer import sent

_STACKS = 8
"""Numbers of adapters whose views are kept; most ticks of a group have the same."""


class RowsTogether:
    """Weights and gradients of a tick's adapters as stacks, and AdamW over their rows.

    Args:
        bank: `[slots, width]`.
    """

    def __init__(self, blocks: Mapping[str, Block], bank: torch.Tensor) -> None:
        self._blocks = blocks
        self._bank = bank
        # By place in the tick, not by slot: a tick's adapters are neighbours.
        self._weights, self._gradients = torch.zeros_like(bank), torch.zeros_like(bank)
        self._rows = self._gradients.unbind()
        self._optimizer = RowAdamW(bank)
        self._stacks: dict[int, dict[str, list[Pair]]] = {}
        self._slots: tuple[int, ...] = ()

    def place(self, slot: int, rank: int, weight_decay: float) -> None:
        """A new adapter is in a slot: forgets all that the last one left."""
        self._optimizer.place(slot, weight_decay)

    def begin(self, slots: Sequence[int]) -> dict[str, list[Pair]]:
        """The weights of a tick's adapters, by module: one pair, of all of them."""
        n = len(slots)
        self._slots = tuple(slots)
        index = sent(torch.tensor(slots), self._bank.device)
        torch.index_select(self._bank, 0, index, out=self._weights[:n])
        if n not in self._stacks:
            if len(self._stacks) == _STACKS:
                self._stacks.pop(next(iter(self._stacks)))
            weights, gradients = self._weights[:n], self._gradients[:n]
            self._stacks[n] = {
                name: [Pair(*block.split(weights), *block.split(gradients))]
                for name, block in self._blocks.items()
            }
        for (pair,) in self._stacks[n].values():
            pair.is_fresh = True
        return self._stacks[n]

    def gradient(self, slot: int) -> torch.Tensor:
        """A slot's gradient `[width]` of the last tick, clipped by its step."""
        return self._rows[self._slots.index(slot)]

    def step(self, steps: Sequence[SlotStep], losses: torch.Tensor) -> torch.Tensor:
        """See `RowsApart.step`; no adapter is frozen."""
        whole = self._gradients[: len(steps)]
        norms = torch.linalg.vector_norm(whole, dim=1)
        if any(own.clip for own in steps):
            clips = torch.tensor([own.clip or math.inf for own in steps], dtype=norms.dtype)
            factors = (sent(clips, norms.device) / (norms + 1e-6)).clamp_(max=1.0)
            # A NaN stays where it is: not in the gaps between modules, which no product writes.
            whole.mul_(factors.nan_to_num_(nan=1.0)[:, None])
        self._optimizer.step(self._slots, self._rows[: len(steps)], [own.lr for own in steps])
        return torch.stack([losses.to(norms), norms])
