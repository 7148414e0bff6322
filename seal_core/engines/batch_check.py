"""Finds out whether a model answers rows of a batch as `generate()` answers each of them alone.

Recurrent states that take in padding, positions that do not heed it, and caches that cannot
drop rows are told by trying, not by the model's name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import LogitsProcessor

from seal_core.engines.base import GenerateRequest
from seal_core.engines.decoding import DecodeRow, decode
from seal_core.engines.loading import LoadedModel
from seal_core.engines.lora_bank import LoraBank
from seal_core.engines.plain_generator import run_generate
from seal_core.engines.stopping import StopFinder

_LENGTHS = ((3, 2), (11, 9), (7, 5), (2, 3))
"""Tokens of prompt and answer; rows end one after another, so that the batch shrinks."""

TOLERANCE = {
    torch.float64: 1e-6,  # Many models compute norms and rotations in single precision.
    torch.float32: 1e-3,
    torch.float16: 0.02,
    torch.bfloat16: 0.1,
}
"""Relative L2 difference of logits that rounding explains; sound 7B models in bfloat16 show
.023. It depends neither on the vocabulary nor on the spread of the logits."""


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """L2 norm of the difference, as a share of the expected one's; inf for other shapes."""
    if found.shape != expected.shape:
        return float("inf")
    precise = expected.double()
    return float((found.double() - precise).norm() / precise.norm())


def can_batch(loaded: LoadedModel) -> bool:
    """Whether batches get the logits that `generate()` has for each row, in every step."""
    n_tokens = loaded.model.get_input_embeddings().weight.shape[0]
    rows, expected = [], []
    for place, (length, limit) in enumerate(_LENGTHS):
        prompt = [(7 * i + 13 * place + 1) % n_tokens for i in range(length)]
        row = DecodeRow(place, GenerateRequest(str(place), ""), prompt, limit)
        recorder = _Recorder()
        run_generate(loaded, row, [recorder], [])
        expected.append(recorder)
        rows.append(row)
    script = _Script([own.tokens for own in expected])
    # Without the end tokens, which a random model may well choose.
    bank, finder = LoraBank(loaded.model, 0), StopFinder(loaded.tokenizer)
    bank.activate([None] * len(rows))
    try:
        decode(loaded, bank, finder, rows, script, stops=frozenset())  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError, RuntimeError, KeyError, AttributeError, IndexError):
        return False  # The batch cannot even be computed: one by one, then.
    finally:
        bank.remove()
    limit = TOLERANCE[loaded.model.dtype]
    return all(
        relative_error(torch.stack(found), torch.stack(own.logits)) <= limit
        for found, own in zip(script.logits, expected, strict=True)
    )


class _Recorder(LogitsProcessor):
    """Keeps what `generate()` sees in each step, and the tokens that it takes."""

    def __init__(self) -> None:
        self.logits: list[torch.Tensor] = []
        self.tokens: list[int] = []

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        self.logits.append(scores[0].clone())
        self.tokens.append(int(scores[0].argmax()))
        return scores


class _Script:
    """A sampler that takes given tokens and keeps the logits that it was shown."""

    def __init__(self, tokens: Sequence[Sequence[int]]) -> None:
        self._tokens = tokens
        self._alive = list(range(len(tokens)))
        self.logits: list[list[torch.Tensor]] = [[] for _ in tokens]

    def keep(self, rows: Sequence[int]) -> None:
        """Drops all rows but these."""
        self._alive = [self._alive[row] for row in rows]

    def choose(self, logits: torch.Tensor, step: int) -> torch.Tensor:
        """Token ids `[rows]`."""
        chosen = []
        for place, row in enumerate(self._alive):
            own = self._tokens[row]
            if step < len(own):
                self.logits[row].append(logits[place].clone())
            chosen.append(own[min(step, len(own) - 1)])
        return torch.tensor(chosen, device=logits.device)
