"""Runs rows with different adapters in one batch, along answers that `generate()` gave.

Recurrent states that take in padding, positions that do not heed it, caches that cannot drop
rows and layers whose rows cannot be told apart are found by trying, not by the model's name.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from seal_core.engines import GenerateRequest
from seal_core.errors import InputError
from seal_core.generation.decoding import DecodeRow, decode
from seal_core.generation.lora_bank import LoraBank, stack_order
from seal_core.generation.scoring import text_logprobs
from seal_core.generation.stopping import StopFinder
from seal_core.models.loading import LoadedModel
from seal_core.probe.probe_rows import Answer

_COUNTS_PADDING = frozenset({"minimax_m3_sparse"})
"""Layers that go wrong in rows of more than one block, which the probe's rows are too short for."""


_CALL_TOKENS = 8
"""So few that the prompts are read in two parts, each of rows of different lengths."""


def batched_logits(loaded: LoadedModel, answers: Sequence[Answer]) -> list[torch.Tensor]:
    """Each answer's logits `[steps, vocabulary]`, all answers decoded together.

    Raises:
        Exception: of many kinds, from within models that cannot be run so.
    """
    kinds = getattr(loaded.model.config.get_text_config(), "layer_types", None) or ()
    if _COUNTS_PADDING.intersection(kinds):
        raise InputError("its sparse layers count padding into the blocks that they choose")
    with banked(loaded, answers) as (bank, order):
        rows = [
            DecodeRow(
                i, GenerateRequest(str(i), ""), list(answers[i].prompt), len(answers[i].tokens)
            )
            for i in order
        ]
        script = Script([answers[i].tokens for i in order])
        # Without the model's end tokens, which a random model may well choose.
        decode(loaded, bank, StopFinder(loaded.tokenizer), rows, script, _CALL_TOKENS)
    found = {i: torch.stack(logits) for i, logits in zip(order, script.logits, strict=True)}
    return [found[i] for i in range(len(answers))]


def batched_scores(loaded: LoadedModel, answers: Sequence[Answer]) -> list[float]:
    """Log-probability of each answer after its prompt, nats, all scored together.

    Raises:
        Exception: of many kinds, from within models that cannot be run so.
    """
    with banked(loaded, answers) as (bank, order):
        texts = [(answers[i].prompt + answers[i].tokens, len(answers[i].tokens)) for i in order]
        found = dict(zip(order, text_logprobs(loaded, bank, texts), strict=True))
    return [found[i] for i in range(len(answers))]


@contextmanager
def banked(loaded: LoadedModel, answers: Sequence[Answer]) -> Iterator[tuple[LoraBank, list[int]]]:
    """A bank with the answers' adapters, and the order in which it takes the answers."""
    bank = LoraBank(loaded.model, 1 << 30)
    try:
        stacks = [bank.load(answer.adapters) if answer.adapters else None for answer in answers]
        order = stack_order(stacks)
        bank.activate([stacks[i] for i in order])
        yield bank, order
    finally:
        bank.remove()


class Script:
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
