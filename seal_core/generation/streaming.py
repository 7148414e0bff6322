"""Tells a completion's text while it is generated, and never a character that is taken back."""

from __future__ import annotations

from collections.abc import Callable

from seal_core.errors import InputError
from seal_core.generation.decoding import DecodeRow
from seal_core.generation.stopping import StopFinder
from seal_core.models.text.tokens import Codec

_UNFINISHED = "\ufffd"
"""What tokenizers make of a character of which bytes are still to come."""


class Telling:
    """The text of one row as it grows.

    Args:
        hear: Called with each piece; the pieces together are the row's text.
    """

    def __init__(
        self, row: DecodeRow, codec: Codec, finder: StopFinder, hear: Callable[[str], object]
    ) -> None:
        self._row, self._codec, self._finder, self._hear = row, codec, finder, hear
        self._told = ""

    def grow(self) -> None:
        """After a token: tells what is certain by now."""
        row = self._row
        request = row.request
        try:
            text = self._codec.answer_text(
                request.prompt, request.chat, row.ids, row.ends, self._finder.decode
            )
        except InputError:
            return  # It is still thinking.
        text = self._finder.cut(text, request.stop)
        # What may yet become a stop string, or another character, waits.
        held = max((_overlap(text, stop) for stop in request.stop), default=0)
        self._tell(text[: len(text) - held].rstrip(_UNFINISHED))

    def end(self, text: str | None) -> None:
        """Tells the rest of the row's text; all of it, if it turned out to be another."""
        whole = text or ""
        if not whole.startswith(self._told):
            self._hear("\n")
            self._told = ""
        self._tell(whole)

    def _tell(self, text: str) -> None:
        if len(text) > len(self._told) and text.startswith(self._told):
            self._hear(text[len(self._told) :])
            self._told = text


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`."""
    lengths = range(min(len(text), len(stop) - 1), 0, -1)
    return next((n for n in lengths if stop.startswith(text[-n:])), 0)
