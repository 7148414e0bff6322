"""Chooses the next token of every batch row with the row's own settings and randomness."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from seal_core.engines.base import GenerateRequest


class Sampler:
    """Greedy or nucleus sampling per row (Holtzman et al. 2020, arXiv 1904.09751).

    A row's randomness is a stream of uniform numbers drawn from its request's seed alone, one
    per token, so its text does not depend on the rows beside it.
    """

    def __init__(self, requests: Sequence[GenerateRequest], limits: Sequence[int]) -> None:
        self._greedy = torch.tensor([request.temperature <= 0 for request in requests])
        self._temperature = torch.tensor(
            [request.temperature if request.temperature > 0 else 1.0 for request in requests],
            dtype=torch.float64,
        )
        self._top_p = torch.tensor([request.top_p for request in requests], dtype=torch.float64)
        self._uniform = torch.zeros(len(requests), max(limits), dtype=torch.float64)
        for row, (request, limit) in enumerate(zip(requests, limits, strict=True)):
            if request.temperature > 0:
                stream = np.random.default_rng(request.seed).random(limit)
                self._uniform[row, :limit] = torch.from_numpy(stream)
        self._refresh()

    def keep(self, rows: torch.Tensor) -> None:
        """Drops all rows but these."""
        self._greedy, self._temperature = self._greedy[rows], self._temperature[rows]
        self._top_p, self._uniform = self._top_p[rows], self._uniform[rows]
        self._refresh()

    def choose(self, logits: torch.Tensor, step: int) -> torch.Tensor:
        """Token ids `[rows]` for logits `[rows, vocabulary]` of the given step."""
        best = logits.argmax(dim=-1)
        if self._all_greedy:
            return best
        device = logits.device
        scaled = logits.double() / self._temperature.to(device)[:, None]
        probabilities = scaled.softmax(dim=-1)
        uniform = self._uniform[:, step].to(device)
        if self._any_nucleus:
            probabilities = _nucleus(probabilities, self._top_p.to(device))
        drawn = _invert(probabilities, uniform)
        return torch.where(self._greedy.to(device), best, drawn)

    def _refresh(self) -> None:
        self._all_greedy = bool(self._greedy.all())
        self._any_nucleus = bool((self._top_p < 1).any())


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
