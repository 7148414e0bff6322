"""Optimise weight matrices with Muon (Jordan et al. 2024), all of one shape at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor

_NS = (3.4445, -4.7750, 2.0315)
_NS_STEPS = 5


def orthogonalise(stack: Tensor) -> Tensor:
    """Newton-Schulz: push every singular value of each matrix of [n, rows, cols] towards 1."""
    a, b, c = _NS
    wide = stack.shape[-2] <= stack.shape[-1]
    x = (stack if wide else stack.mT).bfloat16()
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(_NS_STEPS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x if wide else x.mT).to(stack.dtype)


class Muon:
    """Momentum whose step has all singular values near 1."""

    def __init__(self, params: Iterable[Tensor], momentum: float = 0.95) -> None:
        shapes: dict[torch.Size, list[Tensor]] = defaultdict(list)
        for p in params:
            shapes[p.shape].append(p)
        self._groups = [(ps, torch.zeros(len(ps), *ps[0].shape)) for ps in shapes.values()]
        self._momentum = momentum

    @torch.no_grad()
    def step(self, lr: float, weight_decay: float = 0.0) -> None:
        """Take one step from the gradients that the parameters carry."""
        for params, buffer in self._groups:
            grads = torch.stack([p.grad for p in params if p.grad is not None])
            buffer.lerp_(grads, 1 - self._momentum)
            update = orthogonalise(grads.lerp(buffer, self._momentum))
            scale = lr * max(1.0, update.shape[-2] / update.shape[-1]) ** 0.5
            for p, u in zip(params, update, strict=True):
                p.mul_(1 - lr * weight_decay).add_(u, alpha=-scale)
