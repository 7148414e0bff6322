"""Applies another stack of LoRA adapters to each row of one batch.

Every targeted linear layer computes `base(x) + (x A^T) B^T`, where row i of the batch has its
own A [r, in] and B [out, r]. A stack of two adapters is one adapter of rank r1 + r2: the sum
of two low-rank products is the product of the concatenations. Ranks are filled up with zeros.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from seal_core.engines.adapter_files import adapter_stamp, read_adapter
from seal_core.errors import InputError

Paths = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Stack:
    """A request's adapters joined into one, ready for `x @ down @ up`.

    Attributes:
        down: `[in, rank]` by module.
        up: `[rank, out]` by module, scale included.
    """

    down: dict[str, torch.Tensor]
    up: dict[str, torch.Tensor]
    n_bytes: int


class BankedLinear(nn.Module):
    """A linear layer with an optional low-rank delta per batch row.

    Attributes:
        down, up: None for the plain layer; `[in, r]` and `[r, out]` for one delta on all rows;
            `[rows, in, r]` and `[rows, r, out]` for a delta per row.
    """

    down: torch.Tensor | None
    up: torch.Tensor | None

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        self.down = None
        self.up = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Adds the rows' deltas to the base layer's output; x is `[rows, tokens, in]`."""
        y = self.base(x)
        down, up = self.down, self.up
        if down is None or up is None:
            return y
        if down.dim() == 2:
            return y + (x @ down) @ up
        return torch.baddbmm(y, torch.bmm(x, down), up)


class LoraBank:
    """Holds the adapters of a model's current batch, and a cache of those read lately."""

    def __init__(self, model: Any, cache_bytes: int) -> None:
        self._model = model
        self._layers: dict[str, BankedLinear] = {}
        self._used: list[BankedLinear] = []
        self._rows: list[int] = []
        self._banks: list[tuple[BankedLinear, torch.Tensor, torch.Tensor]] = []
        self._cache: OrderedDict[tuple[Paths, tuple[tuple[int, int], ...]], Stack] = OrderedDict()
        self._cache_bytes = cache_bytes
        self._cached = 0

    def load(self, paths: Paths) -> Stack:
        """Reads, checks and joins the adapters of one request.

        Raises:
            InputError: One of them cannot be read or does not fit the model.
        """
        key = (paths, tuple(adapter_stamp(path) for path in paths))
        stack = self._cache.get(key)
        if stack is None:
            stack = self._read(paths)
            self._cache[key] = stack
            self._cached += stack.n_bytes
            while self._cached > self._cache_bytes and len(self._cache) > 1:
                self._cached -= self._cache.popitem(last=False)[1].n_bytes
        self._cache.move_to_end(key)
        return stack

    def activate(self, stacks: Sequence[Stack | None]) -> None:
        """Sets the adapters of the next forward passes, one stack per batch row."""
        self.deactivate()
        unique = list({id(stack): stack for stack in stacks if stack is not None}.values())
        shared = len(unique) == 1 and all(stack is not None for stack in stacks)
        place = {id(stack): i for i, stack in enumerate(unique)}
        # Rows without adapters point behind the last stack, at a row of zeros.
        rows = [len(unique) if stack is None else place[id(stack)] for stack in stacks]
        for name in sorted({name for stack in unique for name in stack.down}):
            layer = self._layers[name]
            self._used.append(layer)
            if shared:
                layer.down, layer.up = unique[0].down[name], unique[0].up[name]
                continue
            down, up = _joined(unique, name, zeros=len(unique) in rows)
            self._banks.append((layer, down, up))
        self._point(rows)
        self._rows = rows

    def keep(self, rows: Sequence[int]) -> None:
        """Drops all batch rows but these from the active adapters."""
        self._rows = [self._rows[row] for row in rows]
        self._point(self._rows)

    def deactivate(self) -> None:
        """Makes the model the plain base model again."""
        for layer in self._used:
            layer.down = layer.up = None
        self._used, self._banks = [], []

    def _point(self, rows: Sequence[int]) -> None:
        if not self._banks:
            return
        index = torch.tensor(rows, device=self._banks[0][1].device)
        for layer, down, up in self._banks:
            layer.down, layer.up = down.index_select(0, index), up.index_select(0, index)

    def _read(self, paths: Paths) -> Stack:
        downs: dict[str, list[torch.Tensor]] = {}
        ups: dict[str, list[torch.Tensor]] = {}
        for path in paths:
            for name, pair in read_adapter(path).items():
                weight = self._layer(name, path).base.weight
                if (pair.b.shape[0], pair.a.shape[1]) != tuple(weight.shape):
                    raise InputError(f"adapter {path} does not fit {name}: made for another model")
                downs.setdefault(name, []).append(pair.a.T.to(weight))
                # The scale is folded in before rounding to the model's precision.
                up = pair.b.T.double() * pair.scale
                ups.setdefault(name, []).append(up.to(weight))
        down = {name: torch.cat(parts, dim=1).contiguous() for name, parts in downs.items()}
        up = {name: torch.cat(parts, dim=0).contiguous() for name, parts in ups.items()}
        # Attention can turn NaN into zeros, so an answer does not always show it.
        sums = [tensor.sum() for tensor in (*down.values(), *up.values())]
        if sums and not torch.stack(sums).isfinite().all():
            raise InputError(f"adapter {' + '.join(paths)} holds NaN or infinite weights")
        return Stack(down, up, sum(t.nbytes for part in (down, up) for t in part.values()))

    def _layer(self, name: str, path: str) -> BankedLinear:
        """The wrapped layer of that name; layers that no adapter targets stay untouched."""
        if name not in self._layers:
            try:
                layer = self._model.get_submodule(name)
            except AttributeError:
                layer = None
            if not isinstance(layer, nn.Linear):
                raise InputError(f"adapter {path} targets {name}, no linear layer of this model")
            self._layers[name] = BankedLinear(layer)
            self._model.set_submodule(name, self._layers[name])
        return self._layers[name]


def _joined(stacks: Sequence[Stack], name: str, zeros: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """One module's deltas as `[stacks, in, r]` and `[stacks, r, out]`, plus a zero one."""
    present = [stack for stack in stacks if name in stack.down]
    rank = max(stack.down[name].shape[1] for stack in present)
    sample_down, sample_up = present[0].down[name], present[0].up[name]
    n = len(stacks) + zeros
    if len(present) == n and all(stack.down[name].shape[1] == rank for stack in present):
        return (
            torch.stack([stack.down[name] for stack in present]),
            torch.stack([stack.up[name] for stack in present]),
        )
    down = sample_down.new_zeros(n, sample_down.shape[0], rank)
    up = sample_up.new_zeros(n, rank, sample_up.shape[1])
    for i, stack in enumerate(stacks):
        if name in stack.down:
            own = stack.down[name].shape[1]
            down[i, :, :own] = stack.down[name]
            up[i, :own] = stack.up[name]
    return down, up
