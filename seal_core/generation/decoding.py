"""Decodes one batch of prompts, each row with its own settings, until every row is done."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from seal_core.engines import GenerateRequest
from seal_core.generation.kv_cache import can_drop_rows, has_full_attention
from seal_core.generation.lora_bank import LoraBank
from seal_core.generation.prefill import Prefilled, prefill
from seal_core.generation.sampling import Chooser, Sampler
from seal_core.generation.stopping import StopFinder
from seal_core.models.attention import grouped_attention, takes_additive_mask
from seal_core.models.loading import LoadedModel

_SHRINK = 0.75
"""Finished rows are dropped when fewer than this share of the batch is alive: dropping copies
the cache, so it has to pay."""


@dataclass(slots=True)
class DecodeRow:
    """A request on its way.

    Attributes:
        limit: Tokens to generate at most, the model's context considered.
        ends: Tokens that end it.
        ids: Generated tokens, the end token included.
        logprob: Sum of their log-probabilities at temperature 1.
    """

    index: int
    request: GenerateRequest
    prompt: list[int]
    limit: int
    ends: tuple[int, ...] = ()
    ids: list[int] = field(default_factory=list)
    logprob: float = 0.0
    finish_reason: str = ""

    def finish(self, finder: StopFinder) -> None:
        """Says why the row ends, if its newest token ends it."""
        stop = self.request.stop
        if self.ids[-1] in self.ends or (stop and finder.stopped(self.ids, stop)):
            self.finish_reason = "stop"
        elif len(self.ids) == self.limit:
            self.finish_reason = "length"


@torch.inference_mode()
@grouped_attention()
def decode(
    loaded: LoadedModel,
    bank: LoraBank,
    finder: StopFinder,
    rows: Sequence[DecodeRow],
    sampler: Chooser | None = None,
) -> None:
    """Fills in the rows' tokens; the bank holds the rows' adapters already.

    Args:
        sampler: What chooses the tokens; None for what the rows' requests ask for.
    """
    alive = list(rows)
    sampler = sampler or Sampler(
        [row.request for row in rows], [row.limit for row in rows], device=loaded.device
    )
    start = prefill(loaded, bank, [row.prompt for row in rows])
    cache, logits = start.cache, start.logits
    # A finished row stays at the last place that it may have: some models have no later one, and
    # others turn all rows by the batch's largest.
    limits = torch.tensor([row.limit for row in rows], device=loaded.device)
    first = start.lengths[:, None]
    last = first + limits[:, None] - 2
    n_steps = max(row.limit for row in rows)
    mask = _mask_of_answers(loaded.model, start, n_steps)
    shrinks = can_drop_rows(cache)
    for step in range(n_steps):
        tokens = sampler.choose(logits, step)
        _append(alive, tokens, _logprobs(logits, tokens), finder)
        going = [i for i, row in enumerate(alive) if not row.finish_reason]
        if not going:
            return
        if shrinks and len(going) <= _SHRINK * len(alive):
            going = bank.order(going)
            bank.keep(going)
            alive = [alive[i] for i in going]
            kept = torch.tensor(going, device=loaded.device)
            sampler.keep(going)
            cache.batch_select_indices(kept)
            tokens, first, last = tokens[kept], first[kept], last[kept]
            mask = None if mask is None else mask[kept]
        seen = None if mask is None else mask[..., : start.width + step + 1]
        positions = (first + step).minimum(last)
        logits = _next_logits(loaded.model, tokens[:, None], seen, positions, cache)


def _mask_of_answers(model: Any, start: Prefilled, n_steps: int) -> torch.Tensor | None:
    """The mask of prompts and answers, cut to the tokens so far by the caller; None for none.

    Where the model allows it, the mask is what attention adds to its scores,
    `[rows, 1, 1, tokens]`. Else it is 1 and 0, and the library makes a mask of it in each step,
    which on a GPU waits for the device.
    """
    if start.mask is None:
        return None
    mask = torch.nn.functional.pad(start.mask, (0, n_steps), value=1)
    if not (has_full_attention(model) and takes_additive_mask(model)):
        return mask
    added = torch.zeros(mask.shape, dtype=model.dtype, device=mask.device)
    return added.masked_fill_(mask == 0, -math.inf)[:, None, None]


def _next_logits(
    model: Any, ids: torch.Tensor, mask: torch.Tensor | None, positions: torch.Tensor, cache: Any
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
    finder: StopFinder,
) -> None:
    """Gives every row its new token and marks the rows that are done."""
    # One transfer for both, the only wait for the device in a step; ids are exact in float64.
    values = torch.stack([tokens.double(), logprobs.double()], dim=1).tolist()
    for row, (value, logprob) in zip(alive, values, strict=True):
        token = int(value)
        if row.finish_reason:
            continue
        row.ids.append(token)
        row.logprob += logprob
        row.finish(finder)
