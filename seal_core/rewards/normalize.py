"""Normalises answers before they are compared, as SQuAD's official evaluation does.

Rajpurkar et al. 2016: lower case, no punctuation, no articles, single spaces. For text that is
not ASCII it is wider, see `docs/rewards.md`: characters that show nothing are removed, those that
are another way to write the same text are written out (ligatures, full width, ㎡), and every
Unicode punctuation mark counts as punctuation, so that "1750–1840" equals "1750-1840".
"""

from __future__ import annotations

import re
import string
import unicodedata

_ARTICLES = frozenset({"a", "an", "the"})
_ASCII_PUNCTUATION = frozenset(string.punctuation)
_TYPED_AS = {
    "\u2212": "-",
    "\u2044": "/",
    "\u2215": "/",
    "\u00b4": "'",
    "\u02bb": "'",
    "\u02bc": "'",
    "\u2800": " ",
}
"""Signs that Unicode counts as symbols or letters, and that are typed as ASCII."""
_INVISIBLE = re.compile(
    "(\U0001f3f4[\U000e0020-\U000e007f]+)|"
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    "\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff]"
)
"""Unicode's default ignorable characters; first the flags of England, Scotland and Wales, whose
tags tell them apart."""


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
    seen = _INVISIBLE.sub(r"\1", text)
    return unicodedata.normalize("NFC", "".join(map(_written_out, seen))).lower()


def _written_out(char: str) -> str:
    """Unicode's compatibility form of a character, unless that would be another text.

    Numbers that are no digits (², ½, ①), and what is raised, lowered or circled, stay as they
    are: 10² is not 102.
    """
    if char in _TYPED_AS:
        return _TYPED_AS[char]
    form, *rest = unicodedata.decomposition(char).split() or [""]
    own = unicodedata.category(char) == "No" or form in ("<super>", "<sub>", "<circle>")
    if own or not form:
        return char
    # One step at a time: ㎡ is m and ², which stays.
    codes = rest if form.startswith("<") else [form, *rest]
    return "".join(_written_out(chr(int(code, 16))) for code in codes)


def _is_mark(char: str) -> bool:
    return char in _ASCII_PUNCTUATION or unicodedata.category(char).startswith("P")
