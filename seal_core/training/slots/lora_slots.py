"""Holds the trainable A and B of many adapters at once, one row of a bank per adapter.

Every targeted linear layer computes `base(x) + s (x A^T) B^T` with the A, B and scale of the
adapter that a token belongs to. No product ever spans two adapters, so a NaN stays where it arose.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from seal_core.errors import InputError
from seal_core.models.linear import shape
from seal_core.models.lora_layers import Weights
from seal_core.training.slots.blocks import Pair, from_row, plan_blocks, to_row, width_of
from seal_core.training.slots.lora_products import adapted
from seal_core.training.slots.rows_apart import RowsApart
from seal_core.training.slots.rows_together import RowsTogether
from seal_core.training.slots.slot_step import SlotStep
from seal_core.training.tick import Tick


def wants_together(device: torch.device) -> bool:
    """Whether one product of all adapters is faster there than a small one of each."""
    return device.type == "cuda"


class SlotLinear(nn.Module):
    """A frozen linear layer plus each token's own trainable delta.

    Attributes:
        tick: The adapters of the batch; None for the plain layer.
        weights: Their A, B and gradients.
    """

    def __init__(self, base: nn.Module, place: int) -> None:
        super().__init__()
        self.base = base
        self._place = place
        self.tick: Tick | None = None
        self.weights: Sequence[Pair] = ()

    @property
    def weight(self) -> Any:
        """The frozen layer's: models look up its device or type."""
        return self.base.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Adds the deltas to the base layer's output.

        Args:
            x: The tokens of the batch row after row, `[..., in]`.

        Raises:
            InputError: The model gives this layer some of its tokens only.
        """
        if self.tick is None:
            return self.base(x)
        stream = x.reshape(-1, x.shape[-1])
        if stream.shape[0] != sum(self.tick.lengths):
            raise InputError(
                "a target layer sees only some of the tokens (an expert, or the head), so it "
                "cannot be packed with others"
            )
        y = adapted(stream, self.base, self.weights, self.tick, self._place)
        return y.view(*x.shape[:-1], y.shape[-1])


class LoraSlots:
    """A bank `[slots, width]` of adapters with the same targets, and their model's layers.

    Args:
        dtype: Of weights, gradients and moments.
        together: Compute all adapters of a tick in one product, as a GPU wants it; else one by
            one, which is faster on a CPU. None for what the model's device wants.
    """

    def __init__(
        self,
        model: Any,
        modules: Sequence[str],
        rank: int,
        n_slots: int,
        dtype: torch.dtype,
        together: bool | None = None,
    ) -> None:
        self._model = model
        self.together = wants_together(model.device) if together is None else together
        bases = {name: model.get_submodule(name) for name in sorted(modules)}
        self._blocks = plan_blocks({name: shape(base) for name, base in bases.items()}, rank)
        # Before any layer is wrapped: it may not fit, and then the model must be whole.
        size = (n_slots, width_of(self._blocks))
        self._bank = torch.zeros(size, dtype=dtype, device=model.device)
        rows = RowsTogether if self.together else RowsApart
        self._rows: RowsTogether | RowsApart = rows(self._blocks, self._bank)
        self._ranks = [rank] * n_slots
        self._layers = {name: SlotLinear(base, i) for i, (name, base) in enumerate(bases.items())}
        for name, layer in self._layers.items():
            model.set_submodule(name, layer)

    @property
    def n_slots(self) -> int:
        """Adapters that fit at once."""
        return self._bank.shape[0]

    @property
    def dtype(self) -> torch.dtype:
        """Of weights, gradients and moments."""
        return self._bank.dtype

    def to_row(self, weights: Weights) -> torch.Tensor:
        """An adapter as `put` takes it `[width]`, in memory of the CPU."""
        return to_row(self._blocks, weights, self._bank.dtype)

    def put(self, slot: int, row: torch.Tensor, rank: int, weight_decay: float = 0.0) -> None:
        """Puts an adapter into a slot, before its first step."""
        self._ranks[slot] = rank
        self._bank[slot].copy_(row)
        self._rows.place(slot, rank, weight_decay)

    def write(self, slot: int, weights: Weights) -> None:
        """Puts an adapter into a slot that takes no steps."""
        self.put(slot, self.to_row(weights), next(iter(weights.values()))[0].shape[0])

    def step(self, steps: Sequence[SlotStep], losses: torch.Tensor) -> torch.Tensor:
        """Takes one optimizer step of each of the last tick's adapters; see `RowsApart.step`."""
        return self._rows.step(steps, losses)

    def fetch(self, slot: int) -> Callable[[], Weights]:
        """Begins to copy a slot's adapter to the CPU; the function waits for it."""
        row, rank = self._bank[slot], self._ranks[slot]
        if row.device.type != "cuda":
            weights = from_row(self._blocks, row, rank)
            return lambda: weights
        copy = torch.empty(row.shape, dtype=row.dtype, pin_memory=True)
        copy.copy_(row, non_blocking=True)
        copied = torch.cuda.Event()
        copied.record(torch.cuda.current_stream(row.device))

        def wait() -> Weights:
            copied.synchronize()
            return from_row(self._blocks, copy, rank)

        return wait

    def gradients(self, slot: int) -> Weights:
        """A slot's gradients of the last tick, by module."""
        row, rank = self._rows.gradient(slot), self._ranks[slot]
        return {name: block.split(row, rank) for name, block in self._blocks.items()}

    def begin(self, tick: Tick) -> None:
        """Puts a tick's adapters into the layers."""
        weights = self._rows.begin(tick.slots)
        for name, layer in self._layers.items():
            layer.tick, layer.weights = tick, weights[name]

    def end(self) -> None:
        """Takes the tick's adapters out of the layers."""
        for layer in self._layers.values():
            if layer.tick is None:
                continue
            for own in layer.weights:
                own.clear_if_fresh()
            layer.tick, layer.weights = None, ()

    def remove(self) -> None:
        """Gives the model its plain layers back."""
        for name, layer in self._layers.items():
            self._model.set_submodule(name, layer.base)
