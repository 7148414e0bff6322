"""Turns texts into token ids, the same way for answering, scoring and training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from seal_core.engines import PLAIN_CHAT, ChatSettings, TrainRow
from seal_core.errors import InputError
from seal_core.models.text.chat import ChatTemplate
from seal_core.models.text.literal import LiteralEncoder


@dataclass(frozen=True, slots=True)
class EncodedRow:
    """One training sequence.

    Attributes:
        ids: Prompt, text and end token, cut to the row limit.
        n_context: Leading ids that are never a target: the prompt's, and at least the first,
            which nothing predicts.
        n_pads: Ids at the end that are padding: they carry loss, as in the published code, but
            no token sees them.
        weight: Of its loss, see `TrainRow`.
    """

    ids: tuple[int, ...]
    n_context: int
    n_pads: int = 0
    weight: float = 1.0

    def padded(self, length: int, pad_id: int) -> EncodedRow:
        """The row filled up to `length` with padding, which then is a target too."""
        n_pads = length - len(self.ids)
        return replace(self, ids=(*self.ids, *[pad_id] * n_pads), n_pads=n_pads)

    @property
    def n_targets(self) -> int:
        """Tokens that carry loss."""
        return len(self.ids) - self.n_context


class Codec:
    """A model's tokenizer as every engine uses it.

    Args:
        name: Of the model, for messages.
        chat: What its chat template is told; the template is looked at when it is first needed.
    """

    def __init__(self, tokenizer: Any, name: str = "the model", chat: ChatSettings = PLAIN_CHAT):
        self.tokenizer = tokenizer
        self.literal = LiteralEncoder(tokenizer)
        self._name = name
        self._settings = chat

    @cached_property
    def chat(self) -> ChatTemplate:
        """The chat template; raises `InputError` if it cannot be used."""
        return ChatTemplate(self.tokenizer, self.literal, self._settings, self._name)

    @cached_property
    def ends_texts(self) -> bool:
        """Whether the tokenizer itself puts its end token after every text."""
        bare, whole = self.literal.encode_text("a"), self.literal.encode_text("a", special=True)
        return whole[-1] == self.tokenizer.eos_token_id and whole[-1] != bare[-1]

    def check_known(self, ids: Sequence[int], n_tokens: int) -> None:
        """Passes if a model of `n_tokens` has an embedding for every token of a text.

        Raises:
            InputError: The tokenizer knows more tokens than the model.
        """
        if ids and (largest := max(ids)) >= n_tokens:
            raise InputError(
                f"token {largest} ({self.tokenizer.convert_ids_to_tokens(largest)!r}) is beyond "
                f"the model's {n_tokens} tokens: the tokenizer of {self._name} is another model's"
            )

    def ends(self, stop_ids: Sequence[int], chat: bool) -> tuple[int, ...]:
        """Tokens that end an answer: the model's, and of a reply that which ends it."""
        return tuple(sorted({*stop_ids, self.chat.end_id})) if chat else tuple(stop_ids)

    def answer_text(
        self,
        prompt: str,
        chat: bool,
        ids: Sequence[int],
        ends: Sequence[int],
        decode: Callable[[Sequence[int]], str],
    ) -> str:
        """Text of generated tokens, without the one that ended them.

        Raises:
            InputError: A reply has a thought without an end.
        """
        said = ids[:-1] if ids and ids[-1] in ends else ids
        return self.chat.reply(prompt, said, decode) if chat else decode(said)


def encode_prompt(codec: Codec, prompt: str, chat: bool = False) -> list[int]:
    """Ids of a fresh sequence that a completion follows.

    Raises:
        InputError: The prompt has no tokens, or the chat template cannot be used.
    """
    if chat:
        # The template writes the special tokens of a fresh sequence itself.
        ids = codec.chat.prompt(prompt)
    else:
        ids = codec.literal.encode_text(prompt, special=True)
        if codec.ends_texts:
            ids = ids[:-1]  # A completion still follows here.
    if not ids:
        raise InputError("the prompt has no tokens")
    return ids


def encode_completion(codec: Codec, text: str) -> list[int]:
    """Ids of a text that continues a prompt, without special tokens.

    At the start of a sequence, some tokenizers (Llama 2's) would put a blank before it, so it is
    read after a line break, unless that joins it.
    """
    start, whole = codec.literal.encode_text("\n"), codec.literal.encode_text(f"\n{text}")
    if whole[: len(start)] == start:
        return whole[len(start) :]
    return codec.literal.encode_text(text)


def encode_row(codec: Codec, row: TrainRow, eos_id: int, max_length: int) -> EncodedRow:
    """Ids of one training text, the token that ends it included, cut to `max_length`.

    A chat reply ends with what ends a turn in the model's template, any other text with `eos_id`,
    and one that goes on with neither.
    Prompt and text are tokenized apart, as they are when the text is generated.
    """
    if row.chat:
        turn = codec.chat.row(row.prompt, row.text)
        ids, n_context = list(turn.ids), turn.n_context
        if row.is_open:
            ids = _without_end(ids, codec.chat.end_id)
    elif row.prompt:
        context = encode_prompt(codec, row.prompt)
        ids, n_context = [*context, *encode_completion(codec, row.text)], len(context)
        if not row.is_open:
            ids.append(eos_id)
    else:
        ids, n_context = codec.literal.encode_text(row.text, special=True), 1
        if row.is_open:
            ids = ids[:-1] if codec.ends_texts and len(ids) > n_context else ids
        elif not codec.ends_texts or len(ids) <= n_context:
            ids.append(eos_id)
    ids = ids[:max_length]
    return EncodedRow(tuple(ids), min(n_context, len(ids)), weight=row.weight)


def _without_end(ids: list[int], end_id: int) -> list[int]:
    """A conversation up to the token that ends its last turn, after which templates write more."""
    place = len(ids) - 1 - ids[::-1].index(end_id) if end_id in ids else len(ids)
    return ids[:place]


def encode_rows(
    codec: Codec, rows: Sequence[TrainRow], eos_id: int, max_length: int
) -> list[EncodedRow]:
    """Encodes rows and leaves out those that have nothing to train on after the cut.

    Raises:
        InputError: No row is left.
    """
    encoded = [encode_row(codec, row, eos_id, max_length) for row in rows]
    usable = [row for row in encoded if row.n_targets > 0]
    if not usable:
        raise InputError(f"none of the {len(rows)} training rows has a token to train on")
    return usable
