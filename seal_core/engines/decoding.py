"""Decodes one batch of prompts, each row with its own settings, until every row is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from seal_core.engines.base import GenerateRequest
from seal_core.engines.kv_cache import new_cache
from seal_core.engines.loading import LoadedModel
from seal_core.engines.lora_bank import LoraBank
from seal_core.engines.sampling import Sampler
from seal_core.engines.stopping import StopFinder

_SHRINK = 0.75
"""Finished rows are dropped when fewer than this share of the batch is alive: dropping copies
the cache, so it has to pay."""


@dataclass(slots=True)
class DecodeRow:
    """A request on its way.

    Attributes:
        limit: Tokens to generate at most, the model's context considered.
        ids: Generated tokens, the end token included.
        logprob: Sum of their log-probabilities at temperature 1.
    """

    index: int
    request: GenerateRequest
    prompt: list[int]
    limit: int
    ids: list[int] = field(default_factory=list)
    logprob: float = 0.0
    finish_reason: str = ""


@torch.inference_mode()
def decode(
    loaded: LoadedModel, bank: LoraBank, finder: StopFinder, rows: Sequence[DecodeRow]
) -> None:
    """Fills in the rows' tokens; the bank holds the rows' adapters already."""
    alive = list(rows)
    ids, mask = pad_left([row.prompt for row in rows], loaded)
    room = torch.ones(len(rows), max(row.limit for row in rows), dtype=mask.dtype)
    mask = torch.cat([mask, room.to(loaded.device)], dim=1)
    width = ids.shape[1]
    positions = positions_of(mask[:, :width])
    sampler = Sampler([row.request for row in rows], [row.limit for row in rows])
    cache = new_cache(loaded.model)
    stops = frozenset(loaded.stop_ids)
    for step in range(room.shape[1]):
        logits = _next_logits(loaded.model, ids, mask[:, : width + step], positions, cache)
        tokens = sampler.choose(logits, step)
        _append(alive, tokens, _logprobs(logits, tokens), stops, finder)
        going = [i for i, row in enumerate(alive) if not row.finish_reason]
        if not going:
            return
        positions = positions[:, -1:] + 1
        if len(going) <= _SHRINK * len(alive):
            alive = [alive[i] for i in going]
            kept = torch.tensor(going)
            sampler.keep(kept)
            bank.keep(going)
            kept = kept.to(loaded.device)
            cache.batch_select_indices(kept)
            tokens, mask, positions = tokens[kept], mask[kept], positions[kept]
        ids = tokens[:, None]


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


def _next_logits(
    model: Any, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, cache: Any
) -> torch.Tensor:
    output = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    return output.logits[:, -1]


def _logprobs(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    logits = logits if logits.dtype == torch.float64 else logits.float()
    return logits.gather(1, tokens[:, None])[:, 0] - logits.logsumexp(dim=-1)


def _append(
    alive: Sequence[DecodeRow],
    tokens: torch.Tensor,
    logprobs: torch.Tensor,
    stops: frozenset[int],
    finder: StopFinder,
) -> None:
    """Gives every row its new token and marks the rows that are done."""
    for row, token, logprob in zip(alive, tokens.tolist(), logprobs.tolist(), strict=True):
        if row.finish_reason:
            continue
        row.ids.append(token)
        row.logprob += logprob
        stop = row.request.stop
        if token in stops or (stop and finder.stopped(row.ids, stop)):
            row.finish_reason = "stop"
        elif len(row.ids) == row.limit:
            row.finish_reason = "length"
