"""Steps adapters one by one, each a row of the bank: what is fastest on a CPU."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch

from seal_core.training.slots.blocks import Block, Pair
from seal_core.training.slots.row_adamw import RowAdamW
from seal_core.training.slots.slot_step import SlotStep

_PART = 1 << 16


class RowsApart:
    """Views of each row for the layers, and AdamW on the rows.

    Args:
        bank: `[slots, width]`.
    """

    def __init__(self, blocks: Mapping[str, Block], bank: torch.Tensor) -> None:
        self._blocks = blocks
        self._bank = bank
        self._gradients = torch.zeros_like(bank)
        self._pairs: dict[str, dict[int, Pair]] = {name: {} for name in blocks}
        self._frozen: set[int] = set()
        self._optimizer = RowAdamW(bank)

    def place(self, slot: int, rank: int, weight_decay: float) -> None:
        """A new adapter is in a slot: forgets all that the last one left."""
        # The ends that a lower rank leaves unused must be zero: clipping sees them.
        self._gradients[slot].zero_()
        for name, block in self._blocks.items():
            weights = block.split(self._bank[slot], rank)
            self._pairs[name][slot] = Pair(*weights, *block.split(self._gradients[slot], rank))
        self._frozen.discard(slot)
        self._optimizer.place(slot, weight_decay)

    def begin(self, slots: Sequence[int]) -> dict[str, list[Pair]]:
        """The weights of a tick's adapters, by module."""
        found = {name: [pairs[slot] for slot in slots] for name, pairs in self._pairs.items()}
        for pairs in found.values():
            for pair in pairs:
                pair.is_fresh = True
        return found

    def gradient(self, slot: int) -> torch.Tensor:
        """A slot's gradient `[width]`."""
        return self._gradients[slot]

    def step(self, steps: Sequence[SlotStep], losses: torch.Tensor) -> torch.Tensor:
        """Clips as `torch.nn.utils.clip_grad_norm_` does, then one step of AdamW for each adapter.

        An adapter whose loss or gradient is not finite is frozen from then on.

        Args:
            steps: Of the last tick's adapters, in its order.
            losses: Theirs `[adapters]`.

        Returns:
            Losses and norms of the gradients `[2, adapters]`.
        """
        norms = torch.stack([norm_of(self._gradients[own.slot]) for own in steps])
        found = torch.stack([losses.to(norms), norms])
        for own, loss, norm in zip(steps, *found.tolist(), strict=True):
            if not (math.isfinite(loss) and math.isfinite(norm)):
                self._frozen.add(own.slot)
        going = []
        for own, norm in zip(steps, norms, strict=True):
            if own.slot in self._frozen:
                continue
            # As PyTorch has it: a norm just below the bound is scaled too.
            if 0 < own.clip < norm + 1e-6:
                self._gradients[own.slot].mul_(own.clip / (norm + 1e-6))
            going.append(own)
        self._optimizer.step(
            [own.slot for own in going],
            [self._gradients[own.slot] for own in going],
            [own.lr for own in going],
        )
        return found


def norm_of(row: torch.Tensor) -> torch.Tensor:
    """L2 norm of a row, in parts: of ten million float32 numbers at once a CPU is off by 4e-4."""
    return torch.linalg.vector_norm(torch.stack([p.norm() for p in row.split(_PART)]))
