"""Decodes one batch of prompts, each row with its own settings, until every row is done."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from seal_core.engines import GenerateRequest
from seal_core.generation.kv_cache import can_drop_rows, drop_first, has_full_attention
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
    call_tokens: int | None = None,
) -> None:
    """Fills in the rows' tokens; the bank holds the rows' adapters already.

    Args:
        sampler: What chooses the tokens; None for what the rows' requests ask for.
        call_tokens: As in `prefill`.
    """
    sampler = sampler or Sampler(
        [row.request for row in rows], [row.limit for row in rows], device=loaded.device
    )
    batch = _Batch(loaded, bank, rows, call_tokens)
    for step in range(max(row.limit for row in rows)):
        tokens = sampler.choose(batch.logits, step)
        _append(batch.rows, tokens, _logprobs(batch.logits, tokens), finder)
        going = [i for i, row in enumerate(batch.rows) if not row.finish_reason]
        if not going:
            return
        if batch.should_drop(len(going)):
            going = bank.order(going)
            bank.keep(going)
            sampler.keep(going)
            tokens = tokens[batch.keep(going)]
        batch.read(tokens)


class _Batch:
    """The rows of a batch that were not dropped yet, and what the model holds of them.

    No row of it, padding included, gets longer than the model's context, whatever the finished
    ones go on to do: beyond it some models fail, and others change all rows of a batch.

    Attributes:
        logits: Of every row's next token, `[rows, vocabulary]`.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        bank: LoraBank,
        rows: Sequence[DecodeRow],
        call_tokens: int | None,
    ) -> None:
        self._loaded, self._bank, self._call_tokens = loaded, bank, call_tokens
        self.rows = list(rows)
        self._cache: Any = None
        self._start()

    def _start(self) -> None:
        prompts = [row.prompt + row.ids for row in self.rows]
        start = prefill(self._loaded, self._bank, prompts, self._call_tokens)
        self.logits, self._cache, self._width = start.logits, start.cache, start.width
        self._positions = start.lengths[:, None]
        n_steps = max(row.limit - len(row.ids) for row in self.rows)
        self._mask = _mask_of_answers(self._loaded.model, start, n_steps)

    @property
    def _is_full(self) -> bool:
        return self._width == self._loaded.context

    def should_drop(self, n_going: int) -> bool:
        """Whether the finished rows have to leave, or it pays that they do."""
        pays = n_going <= _SHRINK * len(self.rows) and can_drop_rows(self._cache)
        return pays or self._is_full

    def keep(self, going: Sequence[int]) -> torch.Tensor:
        """Drops all rows but these, and returns their numbers on the device."""
        kept = torch.tensor(going, device=self._loaded.device)
        self.rows = [self.rows[i] for i in going]
        crops = has_full_attention(self._loaded.model)
        if self._is_full and not crops:
            self._cache = None  # Read anew, the rows have less padding.
            return kept
        self._cache.batch_select_indices(kept)
        self._positions = self._positions[kept]
        # The newest token is not in the cache yet.
        longest = max(len(row.prompt) + len(row.ids) - 1 for row in self.rows)
        spare = self._width - longest if crops else 0
        if spare:
            drop_first(self._cache, spare)
        self._width -= spare
        self._mask = None if self._mask is None else self._mask[kept][..., spare:]
        return kept

    def read(self, tokens: torch.Tensor) -> None:
        """Reads every row's newest token."""
        if self._cache is None:
            self._start()
            return
        self._width += 1
        output = self._loaded.model(
            input_ids=tokens[:, None],
            attention_mask=None if self._mask is None else self._mask[..., : self._width],
            position_ids=self._positions,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self.logits = output.logits[:, -1]
        self._positions = self._positions + 1


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
