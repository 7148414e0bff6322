"""Runs the prompts of one batch through the model, with little padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from seal_core.generation.batching import split_by_length
from seal_core.generation.kv_cache import has_full_attention, joined, new_cache
from seal_core.generation.lora_bank import LoraBank
from seal_core.models.loading import LoadedModel

_CALL_TOKENS = {"cpu": 64, "cuda": 1024}
"""Tokens whose forward pass takes about as long as the overhead of one more call; measured on
a CPU with models of some million weights, estimated for a GPU with billions."""


@dataclass(frozen=True, slots=True)
class Prefilled:
    """Prompts that were read, ready to go on.

    Attributes:
        logits: Of every prompt's next token, `[rows, vocabulary]`.
        mask: 1 on the prompts' tokens, 0 on padding, `[rows, longest]`; None without padding.
        lengths: Tokens of every prompt, `[rows]`, on the model's device.
    """

    logits: torch.Tensor
    mask: torch.Tensor | None
    lengths: torch.Tensor
    width: int
    cache: Any


def prefill(
    loaded: LoadedModel,
    bank: LoraBank,
    prompts: Sequence[Sequence[int]],
    call_tokens: int | None = None,
) -> Prefilled:
    """Reads the prompts of the bank's active rows; the bank is about all of them afterwards.

    Args:
        call_tokens: What one more call costs, in tokens; None for what it costs on the device.
    """
    lengths = [len(prompt) for prompt in prompts]
    width, device = max(lengths), loaded.device
    chunks = [list(range(len(prompts)))]
    if has_full_attention(loaded.model):
        chunks = length_chunks(lengths, device, call_tokens)
    if len(chunks) == 1:
        cache = new_cache(loaded.model)
        logits = _read(loaded, prompts, cache)
    else:
        logits, cache = _read_in_chunks(loaded, bank, prompts, chunks)
    counts = torch.tensor(lengths, device=device)
    mask = None
    if min(lengths) < width:
        mask = (torch.arange(width, device=device) >= width - counts[:, None]).long()
    return Prefilled(logits, mask, counts, width, cache)


def _read_in_chunks(
    loaded: LoadedModel,
    bank: LoraBank,
    prompts: Sequence[Sequence[int]],
    chunks: Sequence[Sequence[int]],
) -> tuple[torch.Tensor, Any]:
    """Next logits `[rows, vocabulary]` and one cache of all prompts."""
    found, parts = [], []
    for chunk in map(bank.order, chunks):
        bank.point(chunk)
        cache = new_cache(loaded.model, room=0)
        found.append(_read(loaded, [prompts[row] for row in chunk], cache))
        parts.append((torch.tensor(chunk, device=loaded.device), cache))
    bank.point(range(len(prompts)))
    logits = torch.cat(found)[torch.cat([rows for rows, _ in parts]).argsort()]
    return logits, joined(parts, len(prompts), max(map(len, prompts)))


def length_chunks(
    lengths: Sequence[int], device: torch.device, call_tokens: int | None = None
) -> list[list[int]]:
    """Rows to be run together on that device, so that padding does not outweigh calls."""
    if call_tokens is None:
        call_tokens = _CALL_TOKENS.get(device.type, _CALL_TOKENS["cpu"])
    return split_by_length(lengths, call_tokens)


def pad_left(
    sequences: Sequence[Sequence[int]], loaded: LoadedModel
) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask `[rows, longest]`; the texts end together, so that they go on together."""
    longest = max(len(ids) for ids in sequences)
    padded = [[loaded.pad_id] * (longest - len(ids)) + list(ids) for ids in sequences]
    mask = [[0] * (longest - len(ids)) + [1] * len(ids) for ids in sequences]
    device = loaded.device
    return torch.tensor(padded, device=device), torch.tensor(mask, device=device)


def positions_of(mask: torch.Tensor) -> torch.Tensor:
    """Position of every token in its own text; 0 on padding."""
    return (mask.cumsum(dim=1) - 1).clamp_(min=0)


def _read(loaded: LoadedModel, prompts: Sequence[Sequence[int]], cache: Any) -> torch.Tensor:
    ids, mask = pad_left(prompts, loaded)
    padded = min(map(len, prompts)) < ids.shape[1]
    output = loaded.model(
        input_ids=ids,
        # Without a mask the library takes its fastest kernels, and need not look for padding.
        attention_mask=mask if padded else None,
        position_ids=positions_of(mask),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    return output.logits[:, -1]
