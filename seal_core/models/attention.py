"""Attention of one new token per row that reads the key-value cache where it lies.

With grouped-query attention (Ainslie et al. 2023, arXiv 2305.13245) several query heads share
a key head. The library copies every key and value once per query head before each masked
call, which for one new token costs more than the attention itself. Here the query heads of a
key head stand in the place of query tokens instead: the same sums, without the copy.

The model's attention keeps its name, `sdpa`: some models do more than attend where it has that
name (DeepSeek-V3.2 leaves out the tokens that its indexer did not choose), and under a name of
our own they would silently not.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS


@contextlib.contextmanager
def grouped_attention() -> Iterator[None]:
    """Inside, models with the library's `sdpa` attention use this one in its place."""
    ALL_ATTENTION_FUNCTIONS["sdpa"] = _attend
    try:
        yield
    finally:
        del ALL_ATTENTION_FUNCTIONS["sdpa"]


def takes_additive_mask(model: Any) -> bool:
    """Whether the model passes a mask `[rows, 1, queries, keys]` to its attention as it is."""
    known = ("sdpa", "eager")
    return model._supports_attention_backend and model.config._attn_implementation in known


def _attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Output `[rows, tokens, heads, size]` for a query `[rows, heads, tokens, size]`."""
    rows, heads, tokens, size = query.shape
    per_head = attention_mask is not None and attention_mask.shape[1] != 1
    special = any(options.get(name) is not None for name in ("position_bias", "cache"))
    if tokens > 1 or heads == key.shape[1] or per_head or special or options.get("dropout"):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **options
        )
    folded = query.reshape(rows, key.shape[1], -1, size)
    output = scaled_dot_product_attention(
        folded, key, value, attn_mask=attention_mask, scale=scaling
    )
    return output.reshape(rows, 1, heads, -1), None
