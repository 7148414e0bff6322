"""Normalises answers before they are compared, as SQuAD's official evaluation does.

Rajpurkar et al. 2016: lower case, no punctuation, no articles, single spaces. Two things are
wider here, for text that is not ASCII: compatibility forms are unified (Unicode NFKC), and
every Unicode punctuation mark counts as punctuation, so that "1750–1840" equals "1750-1840".
"""

from __future__ import annotations

import string
import unicodedata

_ARTICLES = frozenset({"a", "an", "the"})
_ASCII_PUNCTUATION = frozenset(string.punctuation)


def normalize(text: str) -> str:
    """The normalised answer; empty for text of articles and punctuation only."""
    return " ".join(tokens(text))


def tokens(text: str) -> tuple[str, ...]:
    """Words of the normalised answer, in order."""
    kept = "".join(c for c in unicodedata.normalize("NFKC", text).lower() if not _is_mark(c))
    return tuple(word for word in kept.split() if word not in _ARTICLES)


def raw_tokens(text: str) -> tuple[str, ...]:
    """Words in lower case with articles and punctuation kept.

    The fallback for golds that normalise to nothing, such as "The" or "!".
    """
    return tuple(unicodedata.normalize("NFKC", text).lower().split())


def _is_mark(char: str) -> bool:
    return char in _ASCII_PUNCTUATION or unicodedata.category(char).startswith("P")
