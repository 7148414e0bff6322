"""Applies each batch row's own stack of LoRA adapters, all in the same forward pass.

Every targeted linear layer computes `base(x) + (x A^T) B^T`, where A [r, in] and B [out, r]
are those of the row's stack; a batch holds every stack once, however many rows share it (see
`lora_groups`). A stack of two adapters is one adapter of rank r1 + r2: the sum of two
low-rank products is the product of the concatenations. Ranks are filled up with zeros.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from seal_core.errors import InputError
from seal_core.generation.lora_groups import Group, Segment, row_order, segments
from seal_core.models.files.adapter_files import adapter_stamp, read_adapter
from seal_core.models.linear import is_linear, matrix

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


@dataclass(slots=True)
class Batch:
    """Rows and tokens of the forward pass under way."""

    rows: int = 0
    tokens: int = 0


class BankedLinear(nn.Module):
    """A linear layer with an optional low-rank delta per group of batch rows.

    Attributes:
        down, up: `[stacks, in, r]` and `[stacks, r, out]`; None for the plain layer.
        segments: Which rows get which stack.
    """

    down: torch.Tensor | None
    up: torch.Tensor | None

    def __init__(self, base: nn.Module, batch: Batch) -> None:
        super().__init__()
        self.base = base
        self._batch = batch
        self.down = None
        self.up = None
        self.segments: list[Segment] = []

    @property
    def weight(self) -> Any:
        """The frozen layer's: models look up its device or type."""
        return self.base.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Adds the rows' deltas to the base layer's output.

        Args:
            x: `[rows, ..., in]`, or flattened to `[rows * tokens, in]`.

        Raises:
            InputError: The model gives this layer something else: which rows it came from
                cannot be known.
        """
        y = self.base(x)
        if self.down is None or self.up is None:
            return y
        rows, tokens = self._batch.rows, self._batch.tokens
        is_flat = x.dim() == 2 and x.shape[0] == rows * tokens
        if not is_flat and (x.dim() < 3 or x.shape[0] != rows):
            raise InputError(
                f"a target layer gets activations of shape {tuple(x.shape)} from {rows} rows of "
                f"{tokens} tokens, so their adapters cannot be told apart"
            )
        grouped = x.reshape(rows, -1, x.shape[-1])
        y = y.contiguous()
        target = y.view(rows, -1, y.shape[-1])
        for segment in self.segments:
            segment.add_delta(grouped, target, self.down, self.up)
        return y


class LoraBank:
    """Holds the adapters of a model's current batch, and a cache of those read lately.

    A batch is *activated* with the stacks of all its rows. Forward passes may then be about
    some of the rows (`point`), and rows may leave for good (`keep`).
    """

    def __init__(self, model: Any, cache_bytes: int) -> None:
        self._model = model
        self._layers: dict[str, BankedLinear] = {}
        self._used: list[BankedLinear] = []
        self._groups: list[Group] = []
        self._cache: OrderedDict[tuple[Paths, tuple[tuple[int, int], ...]], Stack] = OrderedDict()
        self._cache_bytes = cache_bytes
        self._cached = 0
        self._batch = Batch()
        self._hook = model.register_forward_pre_hook(self._note_batch, with_kwargs=True)

    def _note_batch(self, _model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        ids = kwargs["input_ids"] if "input_ids" in kwargs else args[0]
        self._batch.rows, self._batch.tokens = ids.shape

    def remove(self) -> None:
        """Gives the model its plain layers back; the bank cannot be used afterwards."""
        self.deactivate()
        self._hook.remove()
        for name, layer in self._layers.items():
            self._model.set_submodule(name, layer.base)

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
        """Sets the adapters of the next forward passes, one stack per batch row.

        Raises:
            ValueError: The rows are not in the order of `stack_order`.
        """
        self.deactivate()
        groups = _numbered(stacks)
        if row_order(groups) != list(range(len(groups))):
            raise ValueError("rows with the same adapters have to stand together")
        unique = list({id(stack): stack for stack in stacks if stack is not None}.values())
        for name in sorted({name for stack in unique for name in stack.down}):
            layer = self._layers[name]
            self._used.append(layer)
            layer.down, layer.up = _joined(unique, name)
        self._groups = groups
        self.point(range(len(groups)))

    def order(self, rows: Sequence[int]) -> list[int]:
        """Active rows in the order in which `point` and `keep` take them."""
        return [rows[i] for i in row_order([self._groups[row] for row in rows])]

    def point(self, rows: Sequence[int]) -> None:
        """Makes the next forward passes about these active rows, in the order of `order`."""
        found = segments([self._groups[row] for row in rows], self._model.device)
        for layer in self._used:
            layer.segments = found

    def keep(self, rows: Sequence[int]) -> None:
        """Drops all active rows but these, in the order of `order`, and stacks without rows."""
        groups = [self._groups[row] for row in rows]
        left = list(dict.fromkeys(group for group in groups if group is not None))
        if self._used and left and left != list(range(self._n_stacks())):
            index = torch.tensor(left, device=self._model.device)
            for layer in self._used:
                # Layer by layer, so that there is never a second copy of the whole bank.
                assert layer.down is not None and layer.up is not None
                layer.down, layer.up = layer.down[index], layer.up[index]
        place = {group: i for i, group in enumerate(left)}
        self._groups = [None if group is None else place[group] for group in groups]
        self.point(range(len(rows)))

    def deactivate(self) -> None:
        """Makes the model the plain base model again."""
        for layer in self._used:
            layer.down = layer.up = None
            layer.segments = []
        self._used, self._groups = [], []

    def _n_stacks(self) -> int:
        return len({group for group in self._groups if group is not None})

    def _read(self, paths: Paths) -> Stack:
        downs: dict[str, list[torch.Tensor]] = {}
        ups: dict[str, list[torch.Tensor]] = {}
        for path in paths:
            for name, pair in read_adapter(path).items():
                weight = matrix(self._layer(name, path).base)
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
            layer: Any
            try:
                layer = self._model.get_submodule(name)
            except AttributeError:
                layer = None
            if not is_linear(layer):
                raise InputError(f"adapter {path} targets {name}, no linear layer of this model")
            self._layers[name] = BankedLinear(layer, self._batch)
            self._model.set_submodule(name, self._layers[name])
        return self._layers[name]


def stack_order(stacks: Sequence[Stack | None]) -> list[int]:
    """The rows of a batch in the order that `LoraBank.activate` takes."""
    return row_order(_numbered(stacks))


def _numbered(stacks: Sequence[Stack | None]) -> list[Group]:
    """Every row's stack as a number, in the order of first appearance."""
    numbers: dict[int, int] = {}
    return [
        None if stack is None else numbers.setdefault(id(stack), len(numbers)) for stack in stacks
    ]


def _joined(stacks: Sequence[Stack], name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """One module's deltas as `[stacks, in, r]` and `[stacks, r, out]`; zeros where one has none."""
    if len(stacks) == 1:
        return stacks[0].down[name][None], stacks[0].up[name][None]
    present = [stack for stack in stacks if name in stack.down]
    rank = max(stack.down[name].shape[1] for stack in present)
    if len(present) == len(stacks) and all(s.down[name].shape[1] == rank for s in present):
        return (
            torch.stack([stack.down[name] for stack in present]),
            torch.stack([stack.up[name] for stack in present]),
        )
    sample_down, sample_up = present[0].down[name], present[0].up[name]
    down = sample_down.new_zeros(len(stacks), sample_down.shape[0], rank)
    up = sample_up.new_zeros(len(stacks), rank, sample_up.shape[1])
    for i, stack in enumerate(stacks):
        if name in stack.down:
            own = stack.down[name].shape[1]
            down[i, :, :own] = stack.down[name]
            up[i, :own] = stack.up[name]
    return down, up
