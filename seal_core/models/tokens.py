"""Turns texts into token ids, the same way for answering, scoring and training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from seal_core.engines import TrainRow
from seal_core.errors import InputError
from seal_core.models.chat import Chat
from seal_core.models.literal import encode_text


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


def encode_prompt(tokenizer: Any, prompt: str, chat: Chat | None = None) -> list[int]:
    """Ids of a fresh sequence that a completion follows.

    Args:
        chat: Template that the prompt is put through as the user's message; None for plain text.

    Raises:
        InputError: The prompt has no tokens, or the template cannot be used.
    """
    if chat is not None:
        ids = chat.prompt(prompt)
    else:
        ids = encode_text(tokenizer, prompt, fresh=True)
        if ids and ids[-1] == tokenizer.eos_token_id:
            ids = ids[:-1]  # Some tokenizers end every text; a completion still follows here.
    if not ids:
        raise InputError("the prompt has no tokens")
    return list(ids)


def encode_completion(tokenizer: Any, text: str) -> list[int]:
    """Ids of a text that continues a prompt, without special tokens.

    Raises:
        InputError: The tokenizer reads some of it as a special token.
    """
    return encode_text(tokenizer, text, fresh=False)


def encode_row(
    tokenizer: Any, row: TrainRow, eos_id: int, max_length: int, chat: Chat
) -> EncodedRow:
    """Ids of one training text, the end token included, cut to `max_length`.

    Prompt and text are tokenized apart, as they are when the text is generated. What ends a chat
    reply is what its template ends it with.

    Raises:
        InputError: The row is a chat reply, and the template cannot be used.
    """
    end_id = eos_id
    if row.prompt or row.chat:
        context = (
            chat.prompt(row.prompt, trained=True)
            if row.chat
            else encode_prompt(tokenizer, row.prompt)
        )
        ids = [*context, *encode_completion(tokenizer, row.text)]
        n_context = len(context)
        if row.chat:
            chat.check_text(row.text)
            end_id = eos_id if chat.end_id is None else chat.end_id
    else:
        ids = encode_text(tokenizer, row.text, fresh=True)
        n_context = 1
    if not ids or ids[-1] != end_id or len(ids) == n_context:
        ids.append(end_id)
    ids = ids[:max_length]
    return EncodedRow(tuple(ids), min(n_context, len(ids)))


def check_tokens(tokenizer: Any, ids: Sequence[int], n_tokens: int) -> None:
    """Passes if a model of `n_tokens` tokens has an embedding for every token of a text.

    Raises:
        InputError: The tokenizer knows more tokens than the model.
    """
    if ids and (largest := max(ids)) >= n_tokens:
        raise InputError(
            f"token {largest} ({tokenizer.convert_ids_to_tokens(largest)!r}) is beyond the model's "
            f"{n_tokens} tokens: the tokenizer is another model's"
        )


def encode_rows(
    tokenizer: Any, rows: Sequence[TrainRow], eos_id: int, max_length: int, chat: Chat
) -> list[EncodedRow]:
    """Encodes rows and leaves out those that have nothing to train on after the cut.

    Raises:
        InputError: No row is left.
    """
    encoded = [encode_row(tokenizer, row, eos_id, max_length, chat) for row in rows]
    usable = [row for row in encoded if row.n_targets > 0]
    if not usable:
        raise InputError(f"none of the {len(rows)} training rows has a token to train on")
    return usable
