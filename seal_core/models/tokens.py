"""Turns texts into token ids, the same way for answering, scoring and training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from seal_core.engines import TrainRow
from seal_core.errors import InputError


@dataclass(frozen=True, slots=True)
class EncodedRow:
    """One training sequence.

    Attributes:
        ids: Prompt, text and end token, cut to the row limit.
        n_context: Leading ids that are never a target: the prompt's, and at least the first,
            which nothing predicts.
        n_pads: Ids at the end that are padding: they carry loss, as in the published code, but
            no token sees them.
    """

    ids: tuple[int, ...]
    n_context: int
    n_pads: int = 0

    def padded(self, length: int, pad_id: int) -> EncodedRow:
        """The row filled up to `length` with padding, which then is a target too."""
        n_pads = length - len(self.ids)
        return EncodedRow((*self.ids, *[pad_id] * n_pads), self.n_context, n_pads)

    @property
    def n_targets(self) -> int:
        """Tokens that carry loss."""
        return len(self.ids) - self.n_context


def encode_prompt(tokenizer: Any, prompt: str, chat: bool = False) -> list[int]:
    """Ids of a fresh sequence that a completion follows.

    Raises:
        InputError: The prompt has no tokens, or `chat` needs a template that is not there.
    """
    if chat:
        if not tokenizer.chat_template:
            raise InputError("the tokenizer has no chat template: set chat = false")
        message = [{"role": "user", "content": prompt}]
        text = tokenizer.apply_chat_template(message, add_generation_prompt=True, tokenize=False)
        # The template writes the special tokens of a fresh sequence itself.
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    else:
        ids = tokenizer(prompt)["input_ids"]
        if ids and ids[-1] == tokenizer.eos_token_id:
            ids = ids[:-1]  # Some tokenizers end every text; a completion still follows here.
    if not ids:
        raise InputError("the prompt has no tokens")
    return list(ids)


def encode_completion(tokenizer: Any, text: str) -> list[int]:
    """Ids of a text that continues a prompt, without special tokens."""
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def encode_row(tokenizer: Any, row: TrainRow, eos_id: int, max_length: int) -> EncodedRow:
    """Ids of one training text, the end token included, cut to `max_length`.

    Prompt and text are tokenized apart, as they are when the text is generated.
    """
    if row.prompt or row.chat:
        context = encode_prompt(tokenizer, row.prompt, row.chat)
        ids = [*context, *encode_completion(tokenizer, row.text)]
        n_context = len(context)
    else:
        ids = list(tokenizer(row.text)["input_ids"])
        n_context = 1
    if not ids or ids[-1] != eos_id or len(ids) == n_context:
        ids.append(eos_id)
    ids = ids[:max_length]
    return EncodedRow(tuple(ids), min(n_context, len(ids)))


def encode_rows(
    tokenizer: Any, rows: Sequence[TrainRow], eos_id: int, max_length: int
) -> list[EncodedRow]:
    """Encodes rows and leaves out those that have nothing to train on after the cut.

    Raises:
        InputError: No row is left.
    """
    encoded = [encode_row(tokenizer, row, eos_id, max_length) for row in rows]
    usable = [row for row in encoded if row.n_targets > 0]
    if not usable:
        raise InputError(f"none of the {len(rows)} training rows has a token to train on")
    return usable
