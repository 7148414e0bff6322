"""Finds stop strings in text that is generated token by token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_MARGIN = 8
"""Tokens beyond the stop string's own bytes that a check decodes."""


class StopFinder:
    """Decides whether the newest token completed one of a request's stop strings.

    Decoding after every token costs more than a small model, so most tokens are dismissed by
    a set: a stop string that ends in a plain character ends only at a token containing it.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._pieces: dict[int, str] = {}
        self._enders: dict[str, frozenset[int] | None] = {}

    def decode(self, ids: Sequence[int]) -> str:
        """Text of the generated ids, without special tokens."""
        return self._tokenizer.decode(
            ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )

    def stopped(self, ids: Sequence[int], stop: Sequence[str]) -> bool:
        """Whether the text of `ids` contains a stop string that its last token completed."""
        return any(
            self._may_end(ids[-1], text)
            # One token is at least one byte, special ones apart.
            and text in self.decode(ids[-(4 * len(text) + _MARGIN) :])
            and text in self.decode(ids)
            for text in stop
        )

    def cut(self, text: str, stop: Sequence[str]) -> str:
        """The text before the first stop string in it."""
        places = [text.find(string) for string in stop]
        return text[: min((place for place in places if place >= 0), default=len(text))]

    def _may_end(self, token: int, stop: str) -> bool:
        last = stop[-1]
        if last not in self._enders:
            self._enders[last] = self._tokens_with(last)
        enders = self._enders[last]
        return enders is None or token in enders

    def _tokens_with(self, character: str) -> frozenset[int] | None:
        """Tokens whose text holds the character; None where single tokens do not show it.

        Characters beyond ASCII may be split over tokens, and some tokenizers strip a lone
        token's space.
        """
        if not character.isascii() or character == " ":
            return None
        if not self._pieces:
            # Ids are not always 0, 1, 2 and so on: a vocabulary may have holes.
            ids = sorted({*range(len(self._tokenizer)), *self._tokenizer.get_vocab().values()})
            pieces = self._tokenizer.batch_decode(
                [[token] for token in ids], clean_up_tokenization_spaces=False
            )
            self._pieces = dict(zip(ids, pieces, strict=True))
        return frozenset(i for i, piece in self._pieces.items() if character in piece)
