"""Holds the trainable A and B of many adapters at once, one row of a bank per adapter.

Every targeted linear layer computes `base(x) + s (x A^T) B^T` with the A, B and scale of the
adapter that a token belongs to. An adapter's weights are one contiguous row, and so are its
gradients: clipping and AdamW run over a row in one call, and never touch an adapter that is
not in the batch. No product ever spans two adapters, so a NaN stays where it arose.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from seal_core.errors import InputError
from seal_core.models.linear import shape
from seal_core.models.lora_layers import Weights
from seal_core.training.lora_products import Pair, Tick, adapted


@dataclass(frozen=True, slots=True)
class Block:
    """Where one module's A `[rank, in]` and B `[out, rank]` stand in a bank's row.

    An adapter of a lower rank than the bank's leaves the end of each part unused.
    """

    start: int
    rank: int
    n_in: int
    n_out: int

    @property
    def middle(self) -> int:
        """End of A, start of B."""
        return self.start + self.rank * self.n_in

    @property
    def end(self) -> int:
        """End of B."""
        return self.middle + self.n_out * self.rank

    def split(self, row: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
        """A `[rank, in]` and B `[out, rank]` as views of a row `[width]`."""
        a = row[self.start : self.start + rank * self.n_in].view(rank, self.n_in)
        b = row[self.middle : self.middle + self.n_out * rank].view(self.n_out, rank)
        return a, b


@dataclass(frozen=True, slots=True)
class Update:
    """One optimizer step of one slot.

    Attributes:
        norm: Of its gradient.
        clip: Largest norm that the gradient keeps; 0 for none.
    """

    slot: int
    lr: float
    norm: float
    clip: float


class SlotLinear(nn.Module):
    """A frozen linear layer plus each token's own trainable delta.

    Attributes:
        tick: The adapters of the batch; None for the plain layer.
        pairs: A, B and their gradients by slot.
    """

    def __init__(self, base: nn.Module, place: int) -> None:
        super().__init__()
        self.base = base
        self._place = place
        self.tick: Tick | None = None
        self.pairs: dict[int, Pair] = {}

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
        pairs = [self.pairs[slot] for slot in self.tick.slots]
        stream = x.reshape(-1, x.shape[-1])
        if stream.shape[0] != sum(self.tick.lengths):
            raise InputError(
                "a target layer sees only some of the tokens (an expert, or the head), so it "
                "cannot be packed with others"
            )
        y = adapted(stream, self.base, pairs, self.tick, self._place)
        return y.view(*x.shape[:-1], y.shape[-1])


class LoraSlots:
    """A bank `[slots, width]` of adapters with the same targets, and their model's layers."""

    def __init__(
        self, model: Any, modules: Sequence[str], rank: int, n_slots: int, dtype: torch.dtype
    ) -> None:
        self._model = model
        self._blocks: dict[str, Block] = {}
        bases = {name: model.get_submodule(name) for name in sorted(modules)}
        width = 0
        for name, base in bases.items():
            self._blocks[name] = Block(width, rank, *shape(base))
            width = self._blocks[name].end
        # Before any layer is wrapped: it may not fit, and then the model must be whole.
        self._bank = torch.zeros(n_slots, width, dtype=dtype, device=model.device)
        self._gradients = torch.zeros_like(self._bank)
        self._ranks = [rank] * n_slots
        self._rows = [nn.Parameter(row) for row in self._bank]
        # A group per adapter; one without a gradient is passed over, its moments untouched.
        self._optimizer = torch.optim.AdamW(
            [{"params": [row]} for row in self._rows], lr=0.0, fused=True
        )
        self._layers = {name: SlotLinear(base, i) for i, (name, base) in enumerate(bases.items())}
        for name, layer in self._layers.items():
            model.set_submodule(name, layer)

    @property
    def n_slots(self) -> int:
        """Adapters that fit at once."""
        return self._bank.shape[0]

    def write(self, slot: int, weights: Weights) -> None:
        """Puts an adapter into a slot."""
        rank = next(iter(weights.values()))[0].shape[0]
        if self._ranks[slot] != rank:
            # The ends that a lower rank leaves unused must be zero: clipping sees them.
            self._bank[slot].zero_()
            self._gradients[slot].zero_()
            self._ranks[slot] = rank
        for name, (a, b) in weights.items():
            block = self._blocks[name]
            pair = Pair(
                *block.split(self._bank[slot], rank), *block.split(self._gradients[slot], rank)
            )
            pair.a.copy_(a)
            pair.b.copy_(b)
            self._layers[name].pairs[slot] = pair

    def restart(self, slot: int, weight_decay: float) -> None:
        """Forgets the moments of the slot's last adapter."""
        self._optimizer.state.pop(self._rows[slot], None)
        self._optimizer.param_groups[slot]["weight_decay"] = weight_decay

    def norms(self, slots: Sequence[int]) -> list[float]:
        """Norm of each slot's gradient."""
        norms = [torch.linalg.vector_norm(self._gradients[slot]) for slot in slots]
        return torch.stack(norms).tolist()

    def update(self, updates: Sequence[Update]) -> None:
        """Clips as `torch.nn.utils.clip_grad_norm_` does, then one step of AdamW per slot."""
        for own in updates:
            row = self._rows[own.slot]
            row.grad = self._gradients[own.slot]
            if 0 < own.clip < own.norm:
                nn.utils.clip_grads_with_norm_([row], own.clip, row.new_tensor(own.norm))
            self._optimizer.param_groups[own.slot]["lr"] = own.lr
        self._optimizer.step()
        for own in updates:
            self._rows[own.slot].grad = None

    def read(self, slot: int) -> Weights:
        """A copy of a slot's adapter."""
        pairs = {name: layer.pairs[slot] for name, layer in self._layers.items()}
        return {name: (pair.a.clone(), pair.b.clone()) for name, pair in pairs.items()}

    def gradients(self, slot: int) -> Weights:
        """A slot's gradients, by module."""
        pairs = {name: layer.pairs[slot] for name, layer in self._layers.items()}
        return {name: (pair.grad_a, pair.grad_b) for name, pair in pairs.items()}

    def begin(self, tick: Tick) -> None:
        """Puts a tick's adapters into the layers."""
        for layer in self._layers.values():
            layer.tick = tick
            for slot in tick.slots:
                layer.pairs[slot].is_fresh = True

    def end(self) -> None:
        """Takes the tick's adapters out of the layers."""
        for layer in self._layers.values():
            if layer.tick is None:
                continue
            for slot in layer.tick.slots:
                layer.pairs[slot].clear_if_fresh()
            layer.tick = None

    def remove(self) -> None:
        """Gives the model its plain layers back."""
        for name, layer in self._layers.items():
            self._model.set_submodule(name, layer.base)
