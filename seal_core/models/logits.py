"""Asks a model for the logits of a text's last places."""

from __future__ import annotations

import inspect
from typing import Any

import torch


def next_logits(
    model: Any, ids: torch.Tensor, n_last: int, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Logits `[rows, n_last, vocabulary]` of a text's last places, float32 at least.

    Args:
        mask: `[rows, tokens]`, 0 on padding; None without padding.
    """
    options: dict[str, Any] = {"use_cache": False}
    if mask is not None:
        options["attention_mask"] = mask
    if takes_logits_to_keep(model):
        options["logits_to_keep"] = n_last
    logits = model(input_ids=ids, **options).logits[:, -n_last:]
    return logits if logits.dtype == torch.float64 else logits.float()


def takes_logits_to_keep(model: Any) -> bool:
    """Whether the model can compute the logits of some places only."""
    return "logits_to_keep" in inspect.signature(model.forward).parameters
