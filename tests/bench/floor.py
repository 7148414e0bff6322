"""Counts the least arithmetic and memory traffic that one edit needs, from shapes alone.

Arithmetic of training, in floating-point operations (a multiplication and an addition are two):
a frozen weight is used once forward and once to pass gradients back to activations, 2 + 2 per
weight and token; it gets no gradient of its own, which would be 2 more. A and B of an adapter
get one, so they cost 6. Causal attention costs, forward, 2 products x 2 operations x hidden per
pair of positions that see each other, and twice that backward. Embedding look-ups, norms,
softmaxes and the loss are left out.

Traffic of adapters, per optimizer step and number in A and B (float32): the weight is read
forward and backward, its gradient written, read by clipping; AdamW reads gradient, weight and
two moments and writes the last three: 11 times 4 bytes. Frozen weights are read twice per pass
over a batch, shared by all adapters in it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from tests.bench.shapes import Shape

STATE_BYTES = 44
"""Per adapter weight and optimizer step."""

QV = ("q_proj", "v_proj")
ALL_LINEAR = ("all-linear",)


_TRIES = 30


@dataclass(frozen=True, slots=True)
class Work:
    """What something costs at least."""

    flops: float
    bytes: float


@dataclass(frozen=True, slots=True)
class Rates:
    """What the machine reaches in this run: operations and bytes per second."""

    flops: float
    bytes: float

    def seconds(self, work: Work) -> float:
        """Arithmetic, then traffic, not overlapped."""
        return work.flops / self.flops + work.bytes / self.bytes


def matmul_weights(shape: Shape) -> int:
    """Frozen weights that every token is multiplied with: all linear layers and the head."""
    block = sum(n_in * n_out for n_in, n_out in shape.linears().values())
    return shape.layers * block + shape.hidden * shape.vocab


def lora_weights(shape: Shape, targets: Sequence[str], rank: int) -> int:
    """Numbers in one adapter's A and B."""
    linears = shape.linears()
    names = linears if tuple(targets) == ALL_LINEAR else targets
    return shape.layers * rank * sum(sum(linears[name]) for name in names)


def training(
    shape: Shape, lengths: Sequence[int], epochs: float, targets: Sequence[str], rank: int
) -> Work:
    """One edit whose rows have these lengths, one row per step; frozen weights not read."""
    adapter = lora_weights(shape, targets, rank)
    flops = (4 * matmul_weights(shape) + 6 * adapter) * sum(lengths) + attention(shape, lengths)
    return Work(float(flops * epochs), float(STATE_BYTES * adapter * len(lengths) * epochs))


def attention(shape: Shape, lengths: Sequence[int]) -> int:
    """Operations of causal attention over one epoch, forward and backward."""
    return 3 * 4 * shape.hidden * shape.layers * sum(n * (n + 1) // 2 for n in lengths)


def passes(shape: Shape, n: float, item_bytes: int, reads: int = 2) -> Work:
    """Reading the frozen weights in `n` passes over a batch."""
    return Work(0.0, n * reads * item_bytes * matmul_weights(shape))


def measure_rates(device: torch.device, dtype: torch.dtype, size: int) -> Rates:
    """The best of some square products, and of some copies, in this process."""
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    numbers = torch.zeros(16 * size * size, dtype=torch.float32, device=device)
    target = torch.empty_like(numbers)
    product = min(_seconds(lambda: torch.mm(a, b), device) for _ in range(_TRIES))
    copied = min(_seconds(lambda: target.copy_(numbers), device) for _ in range(_TRIES))
    return Rates(2 * size**3 / product, 2 * 4 * numbers.numel() / copied)


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    synchronize(device)
    start = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - start


def synchronize(device: torch.device) -> None:
    """Waits for a GPU's queue, so that a clock may be read."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
