"""Encodes text as text, even where it looks like one of the tokenizer's special tokens.

A passage about chat models may well contain `<|im_end|>`. Read as the token, it would end the
user's turn or a training row in the middle.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from seal_core.errors import InputError


def encode_text(tokenizer: Any, text: str, fresh: bool) -> list[int]:
    """Ids of a text in which nothing is a special token.

    Args:
        fresh: With the special tokens that the tokenizer puts around a fresh sequence.

    Raises:
        InputError: The tokenizer cannot read it as text.
    """
    if not has_special(tokenizer, text):
        return list(tokenizer(text, add_special_tokens=fresh)["input_ids"])
    ids = tokenizer(text, add_special_tokens=fresh, split_special_tokens=True)["input_ids"]
    around = tokenizer("a", add_special_tokens=fresh)["input_ids"]
    if _n_special(tokenizer, ids) != _n_special(tokenizer, around):
        looks = _pattern(_contents(tokenizer)).search(text)
        raise InputError(
            f"the tokenizer makes a special token of the text {looks and looks[0]!r}: "
            "take it out of the passage"
        )
    return list(ids)


def has_special(tokenizer: Any, text: str) -> bool:
    """Whether some of the text looks like a special token."""
    return _pattern(_contents(tokenizer)).search(text) is not None


def last_special(tokenizer: Any, text: str) -> int:
    """Where the last special token of a text ends; 0 if there is none."""
    return max((found.end() for found in _pattern(_contents(tokenizer)).finditer(text)), default=0)


def first_special(tokenizer: Any, text: str) -> int:
    """Where the first special token of a text begins; its length if there is none."""
    found = _pattern(_contents(tokenizer)).search(text)
    return len(text) if found is None else found.start()


def special_ids(tokenizer: Any) -> frozenset[int]:
    """Ids of the tokens that no text should turn into."""
    added = tokenizer.added_tokens_decoder
    return frozenset(i for i, token in added.items() if token.special and len(token.content) > 1)


def _n_special(tokenizer: Any, ids: list[int]) -> int:
    special = special_ids(tokenizer)
    return sum(id_ in special for id_ in ids)


def ordinary_marks(tokenizer: Any) -> list[str]:
    """Texts of the added tokens that are not special: text that looks so always becomes them."""
    added = tokenizer.added_tokens_decoder.values()
    return [token.content for token in added if not token.special and len(token.content) > 1]


def _contents(tokenizer: Any) -> tuple[str, ...]:
    added = tokenizer.added_tokens_decoder
    contents = (token.content for token in added.values() if token.special)
    # Some tokenizers pad with a character of their alphabet, such as "!".
    return tuple(sorted(content for content in contents if len(content) > 1))


@lru_cache(maxsize=16)
def _pattern(contents: tuple[str, ...]) -> re.Pattern[str]:
    # Longer ones first; a pattern of nothing matches nothing.
    ordered = sorted(contents, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, ordered)) or r"(?!)")
