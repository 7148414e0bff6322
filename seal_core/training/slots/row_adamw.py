"""AdamW over the rows of a bank: each an adapter with its own rate, decay and count of steps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch

_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-8
"""PyTorch's defaults, which PEFT's and TRL's trainers keep."""


class RowAdamW:
    """PyTorch's fused AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101, algorithm 2).

    It passes once over weights, gradients and moments, in one call for all rows of equal rate and
    decay: a call per adapter at most, whatever the number of its modules.

    Args:
        bank: The weights `[slots, width]`.
    """

    def __init__(self, bank: torch.Tensor) -> None:
        first, second = torch.zeros_like(bank), torch.zeros_like(bank)
        n_steps = torch.zeros(len(bank), device=bank.device)
        self._states = list(zip(*(t.unbind() for t in (bank, first, second, n_steps)), strict=True))
        self._decay = [0.0] * len(bank)

    def place(self, slot: int, weight_decay: float) -> None:
        """A new adapter is in a slot: forgets the last one's moments."""
        for state in self._states[slot][1:]:
            state.zero_()
        self._decay[slot] = weight_decay

    def step(
        self, slots: Sequence[int], gradients: Sequence[torch.Tensor], rates: Sequence[float]
    ) -> None:
        """One step of each of these adapters.

        Args:
            gradients: Theirs `[width]`, in the same order.
            rates: Their learning rates.
        """
        if not slots:
            return
        states = [self._states[slot] for slot in slots]
        torch._foreach_add_([state[-1] for state in states], 1)
        groups: defaultdict[tuple[float, float], list[tuple[torch.Tensor, ...]]] = defaultdict(list)
        for slot, gradient, rate, state in zip(slots, gradients, rates, states, strict=True):
            groups[rate, self._decay[slot]].append((gradient, *state))
        for (rate, decay), rows in groups.items():
            gradient, weight, first, second, n_steps = (
                list(own) for own in zip(*rows, strict=True)
            )
            torch._fused_adamw_(
                weight,
                gradient,
                first,
                second,
                [],
                n_steps,
                lr=rate,
                beta1=_BETA_1,
                beta2=_BETA_2,
                weight_decay=decay,
                eps=_EPSILON,
                amsgrad=False,
                maximize=False,
            )
