"""Chooses the next token of every batch row with the row's own settings and randomness."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch

from seal_core.engines import GenerateRequest


class Chooser(Protocol):
    """Chooses the tokens of a batch, step by step."""

    def keep(self, rows: Sequence[int]) -> None:
        """Drops all rows but these."""
        ...

    def choose(self, logits: torch.Tensor, step: int) -> torch.Tensor:
        """Token ids `[rows]` for logits `[rows, vocabulary]` of the given step."""
        ...


class Sampler:
    """Greedy or nucleus sampling per row (Holtzman et al. 2020, arXiv 1904.09751).

    A row's randomness is a stream of uniform numbers drawn from its request's seed alone, one
    per token, so its text does not depend on the rows beside it.
    """

    def __init__(
        self,
        requests: Sequence[GenerateRequest],
        limits: Sequence[int],
        device: torch.device | None = None,
    ) -> None:
        self._hot = [request.temperature > 0 for request in requests]
        self._nucleus = [hot and r.top_p < 1 for hot, r in zip(self._hot, requests, strict=True)]
        temperatures = [request.temperature or 1.0 for request in requests]
        uniform = np.zeros((len(requests), max(limits) if any(self._hot) else 0))
        for row, (request, limit) in enumerate(zip(requests, limits, strict=True)):
            if self._hot[row]:
                uniform[row, :limit] = np.random.default_rng(request.seed).random(limit)
        # All on the device from the start: a copy per step would make it wait.
        self._greedy = ~torch.tensor(self._hot, device=device)
        self._temperature = torch.tensor(temperatures, dtype=torch.float64, device=device)
        tops = [request.top_p for request in requests]
        self._top_p = torch.tensor(tops, dtype=torch.float64, device=device)
        self._uniform = torch.from_numpy(uniform).to(device)

    def keep(self, rows: Sequence[int]) -> None:
        """Drops all rows but these."""
        self._hot = [self._hot[row] for row in rows]
        self._nucleus = [self._nucleus[row] for row in rows]
        index = torch.tensor(rows, device=self._greedy.device)
        self._greedy, self._temperature = self._greedy[index], self._temperature[index]
        self._top_p, self._uniform = self._top_p[index], self._uniform[index]

    def choose(self, logits: torch.Tensor, step: int) -> torch.Tensor:
        """Token ids `[rows]` for logits `[rows, vocabulary]` of the given step."""
        best = logits.argmax(dim=-1)
        if not any(self._hot):
            return best
        probabilities = (logits.double() / self._temperature[:, None]).softmax(dim=-1)
        if any(self._nucleus):
            probabilities = _nucleus(probabilities, self._top_p)
        drawn = _invert(probabilities, self._uniform[:, step])
        return torch.where(self._greedy, best, drawn)


def _invert(probabilities: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """Inverse of the cumulative distribution at one uniform number per row."""
    cumulative = probabilities.cumsum(dim=-1)
    # Scaled by the last sum, which rounding and the nucleus leave below 1.
    target = (uniform * cumulative[:, -1])[:, None]
    drawn = torch.searchsorted(cumulative, target, right=True)[:, 0]
    return drawn.clamp_(max=probabilities.shape[-1] - 1)


def _nucleus(probabilities: torch.Tensor, top_p: torch.Tensor) -> torch.Tensor:
    """Keeps the fewest most likely tokens whose mass reaches the row's `top_p`.

    The order of the vocabulary stays, so that a row with `top_p` 1 draws the same token
    whether or not another row of its batch has a nucleus.
    """
    ordered, ids = probabilities.sort(dim=-1, descending=True, stable=True)
    before = ordered.cumsum(dim=-1) - ordered
    # The most likely token stays whatever top_p is; with top_p = 1 all tokens stay.
    outside = (before >= top_p[:, None]) & (top_p[:, None] < 1)
    outside[:, 0] = False
    return probabilities.masked_fill(torch.zeros_like(outside).scatter(1, ids, outside), 0.0)
