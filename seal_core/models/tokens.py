"""Turns texts into token ids, the same way for answering, scoring and training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from seal_core.engines import ChatSettings, TrainRow
from seal_core.errors import InputError
from seal_core.models.chat import ChatTemplate
from seal_core.models.literal import LiteralEncoder


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


class Codec:
    """A model's tokenizer as every engine uses it.

    Args:
        name: Of the model, for messages.
        chat: What its chat template is told; the template is looked at when it is first needed.
    """

    def __init__(self, tokenizer: Any, name: str = "the model", chat: ChatSettings | None = None):
        self.tokenizer = tokenizer
        self.literal = LiteralEncoder(tokenizer)
        self._name = name
        self._settings = chat or ChatSettings()

    @cached_property
    def chat(self) -> ChatTemplate:
        """The chat template; raises `InputError` if it cannot be used."""
        return ChatTemplate(self.tokenizer, self.literal, self._settings, self._name)

    @cached_property
    def ends_texts(self) -> bool:
        """Whether the tokenizer itself puts its end token after every text."""
        bare, whole = self.literal.encode_text("a"), self.literal.encode_text("a", special=True)
        return whole[-1] == self.tokenizer.eos_token_id and whole[-1] != bare[-1]

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


class ModelTexts:
    """A model's tokenizer, and how its texts and conversations are written.

    Args:
        eos_id: The token that ends a text.
        stop_ids: Tokens that end an answer, `eos_id` among them.
        name: Of the model, for refusals.
    """

    def __init__(
        self,
        tokenizer: Any,
        eos_id: int,
        stop_ids: Sequence[int],
        name: str,
        chat: ChatOptions | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.eos_id = eos_id
        self._stop_ids = frozenset(stop_ids)
        self._name = name
        self._options = chat or ChatOptions()
        self._plain = LiteralEncoder(tokenizer)

    @cached_property
    def chat(self) -> ChatFormat:
        """How conversations are written.

        Raises:
            InputError: The chat template cannot be used.
        """
        return read_template(self.tokenizer, self._options, self._name)

    def stops(self, chat: bool) -> frozenset[int]:
        """Tokens that end an answer."""
        return self._stop_ids | {self.chat.end_id} if chat else self._stop_ids

    def encode(self, parts: Sequence[Part], chat: bool, fresh: bool = False) -> list[int]:
        """Ids of a text in parts; see `LiteralEncoder.encode`."""
        return (self._talk if chat else self._plain).encode(parts, fresh)

    def said(self, ids: Sequence[int], chat: bool) -> list[int]:
        """Of generated ids those of the answer itself: without its end, and what was thought first.

        Raises:
            InputError: The model was still thinking.
        """
        own = list(ids[:-1] if ids and ids[-1] in self.stops(chat) else ids)
        return self.chat.without_thinking(own) if chat else own

    @cached_property
    def _talk(self) -> LiteralEncoder:
        return LiteralEncoder(self.tokenizer, self.chat.templates)


def encode_prompt(texts: ModelTexts, prompt: str, chat: bool = False) -> list[int]:
    """Ids of a fresh sequence that a completion follows.

    Raises:
        InputError: The prompt has no tokens, or `chat` needs a template that cannot be used.
    """
    if chat:
        # The template writes the special tokens of a fresh sequence itself.
        ids = texts.encode(texts.chat.prompt(prompt), chat)
    else:
        ids = texts.encode([Part(prompt)], chat, fresh=True)
        if ids and ids[-1] == texts.eos_id:
            ids = ids[:-1]  # Some tokenizers end every text; a completion still follows here.
    if not ids:
        raise InputError("the prompt has no tokens")
    return ids


def encode_completion(texts: ModelTexts, text: str, chat: bool = False) -> list[int]:
    """Ids of a text that continues a prompt, without special tokens."""
    return texts.encode([Part(text)], chat)


def encode_row(texts: ModelTexts, row: TrainRow, max_length: int) -> EncodedRow:
    """Ids of one training text, the token that ends it included, cut to `max_length`.

    A reply ends as the chat template ends it, any other text with the tokenizer's end token.
    """
    if row.chat:
        ids, n_context = _encode_talk(texts, row)
    elif row.prompt:
        # Tokenized apart, as they are when the text is generated.
        context = encode_prompt(texts, row.prompt)
        ids, n_context = [*context, *encode_completion(texts, row.text), texts.eos_id], len(context)
    else:
        ids, n_context = texts.encode([Part(row.text)], chat=False, fresh=True), 1
        if not ids or ids[-1] != texts.eos_id or len(ids) == n_context:
            ids.append(texts.eos_id)
    ids = ids[:max_length]
    return EncodedRow(tuple(ids), min(n_context, len(ids)))


def _encode_talk(texts: ModelTexts, row: TrainRow) -> tuple[list[int], int]:
    """A conversation as its template writes it; and how many of its ids come before the reply."""
    opening, reply = texts.chat.row(row.prompt, row.text)
    context, ids = texts.encode(opening, chat=True), texts.encode([*opening, *reply], chat=True)
    if ids[: len(context)] != context:
        # A token spans the end of the prompt, which the prompt itself does not end with.
        ids = [*context, *texts.encode(reply, chat=True)]
    return ids, len(context)


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
