"""Says where each module's A and B stand in an adapter's row of a bank."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from seal_core.models.lora_layers import Weights

_ALIGNED = 16
"""Elements that a block begins at a multiple of: products want 16 bytes, whatever the precision."""


@dataclass(frozen=True, slots=True)
class Block:
    """One module's A `[rank, in]` and B `[out, rank]` in a row `[width]`.

    Of an adapter of a lower rank, A has rows of zeros below, and B columns of zeros on the right.
    """

    start: int
    rank: int
    n_in: int
    n_out: int

    @property
    def middle(self) -> int:
        """Start of B."""
        return _aligned(self.start + self.rank * self.n_in)

    @property
    def end(self) -> int:
        """Where the next block may start."""
        return _aligned(self.middle + self.n_out * self.rank)

    def split(
        self, rows: torch.Tensor, rank: int | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Views `[..., rank, in]` and `[..., out, rank]` of rows `[..., width]`.

        Args:
            rank: Of the adapter; None for the block's own.
        """
        lead = rows.shape[:-1]
        a = rows[..., self.start : self.start + self.rank * self.n_in]
        b = rows[..., self.middle : self.middle + self.n_out * self.rank]
        a, b = a.view(*lead, self.rank, self.n_in), b.view(*lead, self.n_out, self.rank)
        return (a, b) if rank in (None, self.rank) else (a[..., :rank, :], b[..., :rank])


@dataclass(slots=True)
class Pair:
    """One module's weights, views of a bank: of one adapter, or of all adapters of a tick.

    Attributes:
        a, b: `[rank, in]` and `[out, rank]`; of all adapters `[adapters, rank, in]` and
            `[adapters, out, rank]`.
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
        self.a_t, self.b_t = self.a.mT, self.b.mT

    def clear_if_fresh(self) -> None:
        """The gradient of a module that the tick did not reach is zero."""
        if self.is_fresh:
            self.grad_a.zero_()
            self.grad_b.zero_()


def plan_blocks(shapes: Mapping[str, tuple[int, int]], rank: int) -> dict[str, Block]:
    """Blocks of modules with these inputs and outputs, one after the other."""
    blocks: dict[str, Block] = {}
    start = 0
    for name, (n_in, n_out) in shapes.items():
        blocks[name] = Block(start, rank, n_in, n_out)
        start = blocks[name].end
    return blocks


def width_of(blocks: Mapping[str, Block]) -> int:
    """Elements of a row."""
    return max(block.end for block in blocks.values())


def to_row(blocks: Mapping[str, Block], weights: Weights, dtype: torch.dtype) -> torch.Tensor:
    """An adapter as one row `[width]` in memory of the CPU."""
    row = torch.zeros(width_of(blocks), dtype=dtype)
    for name, (a, b) in weights.items():
        own_a, own_b = blocks[name].split(row, a.shape[0])
        own_a.copy_(a)
        own_b.copy_(b)
    return row


def from_row(blocks: Mapping[str, Block], row: torch.Tensor, rank: int) -> Weights:
    """The adapter of this rank in a row, each tensor with memory of its own."""
    return {name: _copies(*block.split(row, rank)) for name, block in blocks.items()}


def _copies(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    plain = torch.contiguous_format
    return a.clone(memory_format=plain), b.clone(memory_format=plain)


def _aligned(n: int) -> int:
    return -(-n // _ALIGNED) * _ALIGNED
