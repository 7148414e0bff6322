"""Pieces of an answer are its text, come as early as they are certain, and are never taken back."""

from __future__ import annotations

from typing import Any

import pytest

from seal_core.engines import GenerateRequest
from seal_core.generation.plain_generator import PlainGenerator
from seal_core.generation.streaming import Telling


class Letters:
    """A codec and a stop finder over text whose tokens are its characters."""

    def answer_text(self, prompt: str, chat: bool, ids: Any, ends: Any, decode: Any) -> str:
        return "".join(ids)

    def decode(self, ids: Any) -> str:
        return "".join(ids)

    def cut(self, text: str, stop: Any) -> str:
        places = [text.find(s) for s in stop if s in text]
        return text[: min(places, default=len(text))]


class Row:
    def __init__(self, stop: tuple[str, ...]) -> None:
        self.request = GenerateRequest("r", "p", stop=stop)
        self.ids: list[str] = []
        self.ends = ()


@pytest.mark.parametrize(
    ("typed", "stop", "pieces", "text"),
    [
        ("abc", (), ["a", "b", "c"], "abc"),
        ("ab\n\nc", ("\n\n",), ["a", "b"], "ab"),
        ("ab\nc", ("\n\n",), ["a", "b", "\nc"], "ab\nc"),
        ("aSTx", ("STOP",), ["a", "STx"], "aSTx"),
        ("a\ufffdb", (), ["a", "\ufffdb"], "a\ufffdb"),
        ("ab\n", ("\n\n",), ["a", "b", "\n"], "ab\n"),
    ],
)
def test_pieces(typed: str, stop: tuple[str, ...], pieces: list[str], text: str) -> None:
    heard: list[str] = []
    row, letters = Row(stop), Letters()
    telling = Telling(row, letters, letters, heard.append)  # type: ignore[arg-type]
    for letter in typed:
        row.ids.append(letter)
        telling.grow()
    telling.end(text)
    assert heard == pieces and "".join(heard) == text


def test_a_real_answer_is_heard_whole(loaded: Any) -> None:
    heard: list[str] = []
    request = GenerateRequest("r", "Once upon", max_tokens=12, temperature=1.5, seed=3)
    (said,) = PlainGenerator(loaded, heard.append).generate([request])
    assert "".join(heard) == said.text and len(heard) > 1
