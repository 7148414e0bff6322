"""Makes one adapter of a stack of adapters.

`b1 a1 + b2 a2` is `[b1 b2] [a1; a2]`: the joined adapter has rank r1 + r2, with zeros where
only one of the two targets a module, and the scales folded into B.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from seal_core.errors import InputError
from seal_core.models.files.adapter_files import LoraPair, read_adapter
from seal_core.models.model_shapes import Shapes

_LARGEST = 1e6
"""No training that went well ends above it. Numbers that overflow in one request of a server have
been seen to make those of later ones NaN."""


def join(
    paths: tuple[str, ...], shapes: Shapes | None = None
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """`(A [rank, in], B [out, rank])` by module, float32, of rank = alpha.

    Raises:
        InputError: One of the adapters cannot be read, holds NaN, or does not fit the shapes.
    """
    stack = [read_adapter(path) for path in paths]
    for path, pairs in zip(paths, stack, strict=True):
        _check(path, pairs, shapes or {})
    ranks = [max(pair.a.shape[0] for pair in pairs.values()) for pairs in stack]
    joined = {}
    for module in sorted({module for pairs in stack for module in pairs}):
        sample = next(pairs[module] for pairs in stack if module in pairs)
        parts = [
            _padded(pairs.get(module), sample, rank)
            for pairs, rank in zip(stack, ranks, strict=True)
        ]
        joined[module] = (
            torch.cat([a for a, _ in parts], dim=0),
            torch.cat([b for _, b in parts], dim=1),
        )
    return joined


def _check(path: str, pairs: Mapping[str, LoraPair], shapes: Shapes) -> None:
    if not pairs:
        raise InputError(f"adapter {path} holds no weights")
    # A checkpoint may name all its modules otherwise than the library does.
    comparable = any(module in shapes for module in pairs)
    for module, pair in pairs.items():
        largest = max(float(pair.a.abs().max()), float(pair.b.abs().max()))
        if not largest <= _LARGEST:
            raise InputError(
                f"adapter {path} holds weights of {largest:g}, NaN or infinite: it diverged"
            )
        shape = (pair.b.shape[0], pair.a.shape[1])
        # A server may take a smaller adapter, or leave a layer out, and answer wrongly.
        if comparable and module not in shapes:
            raise InputError(
                f"adapter {path} targets {module}, which is no linear layer below the head of "
                "this model: nothing else is adapted by servers"
            )
        if comparable and tuple(shapes[module]) != shape:
            raise InputError(f"adapter {path} does not fit {module}: made for another model")


def _padded(
    pair: LoraPair | None, sample: LoraPair, rank: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """One adapter's part of a module, filled up to `rank` with zeros."""
    a = torch.zeros(rank, sample.a.shape[1])
    b = torch.zeros(sample.b.shape[0], rank)
    if pair is not None:
        own = pair.a.shape[0]
        a[:own] = pair.a
        b[:, :own] = pair.b.double() * pair.scale  # rounded once, after the scale
    return a, b
