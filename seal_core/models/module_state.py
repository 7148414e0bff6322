"""Clears what a model keeps on its own modules from one text to the next."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch


@contextlib.contextmanager
def clearing_state(model: Any) -> Iterator[None]:
    """Afterwards no attribute of a module holds a tensor where it was empty before.

    RecurrentGemma keeps its states there and not in the cache, and a prompt of one token, which
    looks to it like a step of decoding, would go on from the last text.
    """
    empty = [
        (module, name)
        for module in model.modules()
        for name, value in vars(module).items()
        if value is None
    ]
    try:
        yield
    finally:
        for module, name in empty:
            if isinstance(getattr(module, name), torch.Tensor):
                setattr(module, name, None)
