"""Words that one set of texts has more often than another."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

_WORD = re.compile(r"(?<!\w)[^\W\d_]{2,}(?!\w)")
_FEWEST = 5
"""Texts that must have a word: what is rarer tells nothing."""
_SMOOTH = 0.5


@dataclass(frozen=True)
class Word:
    """A word and the shares of texts that have it.

    Attributes:
        z: Log odds ratio over its standard error.
    """

    text: str
    share: float
    share_before: float
    z: float


def more_frequent(texts: Sequence[str], before: Sequence[str], n: int = 15) -> list[Word]:
    """The words whose odds to be in a text rose most surely, those in `texts` against `before`."""
    now, then = _texts_with(texts), _texts_with(before)
    words = [
        _word(text, now[text], len(texts), then[text], len(before))
        for text in now
        if now[text] + then[text] >= _FEWEST
    ]
    risen = sorted((word for word in words if word.z > 0), key=lambda word: (-word.z, word.text))
    return risen[:n]


def _texts_with(texts: Sequence[str]) -> Counter[str]:
    return Counter(word for text in texts for word in set(_WORD.findall(text.casefold())))


def _word(text: str, a: int, n_a: int, b: int, n_b: int) -> Word:
    cells = (a, n_a - a, b, n_b - b)
    p, q, r, s = (cell + _SMOOTH for cell in cells)
    error = math.sqrt(1 / p + 1 / q + 1 / r + 1 / s)
    z = (math.log(p / q) - math.log(r / s)) / error
    return Word(text, a / max(n_a, 1), b / max(n_b, 1), z)
