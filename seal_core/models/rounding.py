"""How far results of the same sums may lie apart, by precision."""

from __future__ import annotations

import torch

TOLERANCE = {
    torch.float64: 1e-6,  # Many models compute norms and rotations in single precision.
    torch.float32: 1e-3,
    torch.float16: 0.02,
    torch.bfloat16: 0.06,
}
"""Relative L2 difference that rounding explains. Packed rows of a sound 7B model in bfloat16
differ by .023. The measure depends neither on the vocabulary nor on the spread of the logits."""


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """L2 norm of the difference, as a share of the expected one's; inf for another shape or NaN."""
    if found.shape != expected.shape:
        return float("inf")
    precise = expected.double().cpu()
    norm = float(precise.norm())
    error = float((found.double().cpu() - precise).norm())
    share = error / norm if norm else (0.0 if error == 0 else float("inf"))
    return share if share == share else float("inf")
