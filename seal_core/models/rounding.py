"""How far results of the same sums may lie apart, by precision."""

from __future__ import annotations

import torch

TOLERANCE = {
    torch.float64: 1e-6,  # Many models compute norms and rotations in single precision.
    torch.float32: 1e-3,
    torch.float16: 0.02,
    torch.bfloat16: 0.12,
}
"""Relative L2 difference that rounding explains. In bfloat16, sums in another order move the
logits of sound models of 135M and 7B weights by .02 to .07, and gradients by .02."""

MISSING = 0.5
"""Of `missing_share`. In bfloat16 rounding makes up to .3 of it in a single layer, and less of
logits, even where it makes an expert's router choose otherwise."""

_LEAST = 30.0
"""Nats below the likeliest token from which a token cannot matter."""


def relative_error(found: torch.Tensor, expected: torch.Tensor, floor: float = 0.0) -> float:
    """L2 norm of the difference, as a share of the expected one's; inf for another shape or NaN.

    Args:
        floor: What the expected norm counts as at least.
    """
    if found.shape != expected.shape:
        return float("inf")
    precise = expected.double().cpu()
    norm = max(float(precise.norm()), floor)
    error = float((found.double().cpu() - precise).norm())
    share = error / norm if norm else (0.0 if error == 0 else float("inf"))
    return share if share == share else float("inf")


def missing_share(found: torch.Tensor, expected: torch.Tensor, floor: float = 0.0) -> float:
    """How much of the expected values is not in those found: |1 - <found, expected> / |expected|²|.

    It is 1 where something is left out or is another's, whatever rounding adds in other directions;
    inf for another shape or NaN.

    Args:
        floor: What the expected norm counts as at least.
    """
    if found.shape != expected.shape:
        return float("inf")
    found, expected = found.double().cpu(), expected.double().cpu()
    square = max(float(expected.square().sum()), floor**2)
    missing = abs(float(((found - expected) * expected).sum()))
    share = missing / square if square else float(found.norm())
    return share if share == share else float("inf")


def logits_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Relative L2 difference of logits `[..., vocabulary]`, as far as probabilities depend on it.

    What all logits of a place have in common does not count, nor do tokens that are out of the
    question: either could be large, and make any difference look small.
    """
    if found.shape != expected.shape:
        return float("inf")
    return relative_error(*_that_matter(found, expected))


def logits_missing(found: torch.Tensor, expected: torch.Tensor) -> float:
    """As `logits_error`, the `missing_share`."""
    if found.shape != expected.shape:
        return float("inf")
    return missing_share(*_that_matter(found, expected))


def spread(logits: torch.Tensor) -> float:
    """Standard deviation of logits `[..., vocabulary]` around their place's mean."""
    logits = logits.double()
    matters = logits > logits.amax(-1, keepdim=True) - _LEAST
    return float((_centred(logits, matters).square().sum() / matters.sum()).sqrt())


def _that_matter(found: torch.Tensor, expected: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    found, expected = found.double(), expected.double()
    one, other = (logits > logits.amax(-1, keepdim=True) - _LEAST for logits in (found, expected))
    return _centred(found, one | other), _centred(expected, one | other)


def _centred(logits: torch.Tensor, matters: torch.Tensor) -> torch.Tensor:
    kept = torch.where(matters, logits, 0.0)
    mean = kept.sum(-1, keepdim=True) / matters.sum(-1, keepdim=True)
    return torch.where(matters, logits - mean, 0.0)
