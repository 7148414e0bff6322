"""Normalises answers before they are compared, as SQuAD's official evaluation does.

Rajpurkar et al. 2016: lower case, no punctuation, no articles, single spaces. For text that is
not ASCII it is wider, see `docs/rewards.md`: invisible characters are removed, compatibility
forms are unified (Unicode NFKC) unless that would make another number of them, and every Unicode
punctuation mark counts as punctuation, so that "1750–1840" equals "1750-1840".
"""

from __future__ import annotations

import string
import unicodedata
from itertools import groupby

_ARTICLES = frozenset({"a", "an", "the"})
_ASCII_PUNCTUATION = frozenset(string.punctuation)
_ASCII_FORMS = str.maketrans({"\u2212": "-", "\u2044": "/", "\u00b4": "'", "\u02bc": "'"})
"""Signs that Unicode counts as symbols or letters, and that are typed as punctuation."""
_TAGS = frozenset(map(chr, range(0xE0020, 0xE0080)))
"""They tell the flags of England, Scotland and Wales apart."""


def normalize(text: str) -> str:
    """The normalised answer; empty for text of articles and punctuation only."""
    return " ".join(tokens(text))


def tokens(text: str) -> tuple[str, ...]:
    """Words of the normalised answer, in order."""
    kept = "".join(c for c in _unified(text) if not _is_mark(c))
    return tuple(word for word in kept.split() if word not in _ARTICLES)


def raw_tokens(text: str) -> tuple[str, ...]:
    """Words in lower case with articles and punctuation kept.

    The fallback for golds that normalise to nothing, such as "The" or "!".
    """
    return tuple(_unified(text).split())


def _unified(text: str) -> str:
    """In lower case, in one form of each character, without the invisible ones."""
    seen = "".join(c for c in text.translate(_ASCII_FORMS) if not _is_invisible(c))
    groups = groupby(seen, _is_own_character)
    parts = ("".join(part) if own else _composed("".join(part)) for own, part in groups)
    return "".join(parts).lower()


def _composed(text: str) -> str:
    return unicodedata.normalize("NFKC", text)


def _is_own_character(char: str) -> bool:
    """Whether NFKC would make another text of it: 102 of 10², 11⁄2 of 1½."""
    return unicodedata.decomposition(char).startswith(("<super>", "<sub>", "<fraction>"))


def _is_invisible(char: str) -> bool:
    """Whether it shows nothing: joiners, marks of direction, soft hyphens, variation selectors."""
    if char in _TAGS:
        return False
    return unicodedata.category(char) == "Cf" or "\ufe00" <= char <= "\ufe0f"


def _is_mark(char: str) -> bool:
    return char in _ASCII_PUNCTUATION or unicodedata.category(char).startswith("P")
