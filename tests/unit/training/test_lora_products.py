"""The batched product of a GPU and the small products of a CPU are the same function."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from seal_core.training.lora_products import Layout, Pair, RowDropout, Tick, adapted

LENGTHS, RANKS, SCALES = (5, 1, 9), (4, 2, 3), (2.0, 0.5, 1.0)


def products(batched: bool, dtype: torch.dtype, dropout: float, passes: int = 1):
    """Output, gradient of the input, and gradients of A and B, from equal numbers."""
    generator = torch.Generator().manual_seed(0)
    fine = torch.promote_types(dtype, torch.float32)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    base = nn.Linear(8, 6).to(dtype).requires_grad_(False)
    base.weight.data.copy_(random(6, 8))
    base.bias.data.copy_(random(6))
    pairs = [
        Pair(random(r, 8).to(fine), random(6, r).to(fine), *(2 * [torch.empty(0)])) for r in RANKS
    ]
    for pair in pairs:
        # What an earlier tick left, which must not show.
        pair.grad_a = torch.full_like(pair.a, float("nan"))
        pair.grad_b = torch.full_like(pair.b, float("nan"))
    x = random(sum(LENGTHS), 8).to(dtype).requires_grad_()
    tick = Tick(
        slots=(0, 1, 2),
        lengths=LENGTHS,
        scales=SCALES,
        anchor=torch.zeros(1, requires_grad=True),
        dropout=tuple(RowDropout(dropout, n, 7 + n) for n in LENGTHS) if dropout else (),
        layout=Layout.build(LENGTHS, SCALES, x.device) if batched else None,
    )
    weight = random(sum(LENGTHS), 6).to(dtype)
    y = sum(adapted(x, base, pairs, tick, place=3) for _ in range(passes))
    assert isinstance(y, torch.Tensor)
    (y * weight).sum().backward()
    gradients = [part for pair in pairs for part in (pair.grad_a, pair.grad_b)]
    return [y.detach(), x.grad, *gradients], (x, base, pairs, weight)


@pytest.mark.parametrize("passes", [1, 2])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize(
    ("dtype", "error"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 0.03)]
)
def test_batched_and_one_by_one_agree(dtype, error, dropout, passes) -> None:
    one, _ = products(False, dtype, dropout, passes)
    many, _ = products(True, dtype, dropout, passes)
    for ours, theirs in zip(many, one, strict=True):
        assert ours.dtype == theirs.dtype
        assert (ours.double() - theirs.double()).norm() <= error * theirs.double().norm()


@pytest.mark.parametrize("batched", [False, True])
def test_gradients_are_autograds(batched) -> None:
    results, (x, base, pairs, weight) = products(batched, torch.float64, 0.0)
    free = x.detach().clone().requires_grad_()
    weights = [(p.a.clone().requires_grad_(), p.b.clone().requires_grad_()) for p in pairs]
    parts = [
        base(own) + scale * own @ a.t() @ b.t()
        for own, (a, b), scale in zip(free.split(LENGTHS), weights, SCALES, strict=True)
    ]
    (torch.cat(parts) * weight).sum().backward()
    expected = [torch.cat(parts).detach(), free.grad, *(w.grad for pair in weights for w in pair)]
    for ours, theirs in zip(results, expected, strict=True):
        assert theirs is not None and (ours - theirs).abs().max() <= 1e-12
