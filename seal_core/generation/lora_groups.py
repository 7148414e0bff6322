"""Lays out the rows of a batch so that rows with the same stack of adapters share its weights.

Rows of one stack, a *group*, stand together, larger groups first, rows without adapters last.
Neighbouring groups of one size are then a plain view `[groups, size * tokens, features]` of
the batch. Groups of many sizes are filled up to a common one: activations are copied for
that, never weights, and what comes of the filler is dropped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch

_EXACT_SIZES = 3
"""Up to so many sizes, each gets a product of its own: cheaper than copying activations."""
_FILL = 1.5
"""Beyond that, sizes within this factor share a product, so a third of it is filler at most."""

Group = int | None


@dataclass(frozen=True, slots=True)
class Segment:
    """Neighbouring rows whose deltas one pair of batched products computes.

    Attributes:
        start, stop: The rows.
        n_groups: Stacks among them.
        stacks: Where their weights lie in the bank: a slice, or an index if they are scattered.
        slots: Row of every place of the filled-up layout `[n_groups * size]`; None if all
            groups are of one size.
        back: Place of every row in that layout; None as well then.
    """

    start: int
    stop: int
    n_groups: int
    stacks: slice | torch.Tensor
    slots: torch.Tensor | None = None
    back: torch.Tensor | None = None

    def add_delta(
        self, x: torch.Tensor, y: torch.Tensor, down: torch.Tensor, up: torch.Tensor
    ) -> None:
        """Adds `x @ down @ up` to these rows of y, in place.

        Args:
            x: `[rows, tokens, in]`.
            y: `[rows, tokens, out]`, contiguous.
            down: `[stacks, in, rank]`.
            up: `[stacks, rank, out]`.
        """
        down, up = down[self.stacks], up[self.stacks]
        if self.slots is None or self.back is None:
            grouped = x[self.start : self.stop].reshape(self.n_groups, -1, x.shape[-1])
            target = y[self.start : self.stop].view(self.n_groups, -1, y.shape[-1])
            target.baddbmm_(torch.bmm(grouped, down), up)
            return
        filled = x.index_select(0, self.slots).view(self.n_groups, -1, x.shape[-1])
        delta = torch.bmm(torch.bmm(filled, down), up).view(-1, *y.shape[1:])
        y[self.start : self.stop] += delta.index_select(0, self.back)


def row_order(groups: Sequence[Group]) -> list[int]:
    """The rows as `segments` wants them; equal sizes keep the order of their group numbers."""
    sizes = Counter(groups)

    def key(row: int) -> tuple[bool, int, int, int]:
        group = groups[row]
        return (group is None, -sizes[group], -1 if group is None else group, row)

    return sorted(range(len(groups)), key=key)


def segments(groups: Sequence[Group], device: torch.device) -> list[Segment]:
    """Segments that cover all rows with a stack.

    Args:
        groups: Every row's stack, None for no adapters; ordered as by `row_order`.
    """
    sizes = [(group, len(list(rows))) for group, rows in groupby(groups) if group is not None]
    exact = len({size for _, size in sizes}) <= _EXACT_SIZES
    found: list[Segment] = []
    start, rest = 0, sizes
    while rest:
        width = rest[0][1]
        joins = [size == width if exact else size * _FILL >= width for _, size in rest]
        n = joins.index(False) if False in joins else len(rest)
        found.append(_segment(start, rest[:n], device))
        start, rest = found[-1].stop, rest[n:]
    return found


def _segment(start: int, members: Sequence[tuple[int, int]], device: torch.device) -> Segment:
    sizes = [size for _, size in members]
    stop, n = start + sum(sizes), len(members)
    stacks = _stacks([group for group, _ in members], device)
    width = max(sizes)
    if min(sizes) == width:
        return Segment(start, stop, n, stacks)
    slots, back = [], []
    row = start
    for i, size in enumerate(sizes):
        # The filler repeats a row of the same group, whose own result it cannot touch.
        slots.extend(row + min(place, size - 1) for place in range(width))
        back.extend(i * width + place for place in range(size))
        row += size
    as_index = (torch.tensor(rows, device=device) for rows in (slots, back))
    return Segment(start, stop, n, stacks, *as_index)


def _stacks(groups: Sequence[int], device: torch.device) -> slice | torch.Tensor:
    first = groups[0]
    if list(groups) == list(range(first, first + len(groups))):
        return slice(first, first + len(groups))
    return torch.tensor(groups, device=device)
