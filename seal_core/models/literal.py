"""Encodes texts so that what looks like a special token in them stays text."""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

from tokenizers import AddedToken

from seal_core.errors import InputError

_MARK = "\U000f5ea1"
"""A private-use character around the names under which a template's tokens are encoded."""


class Part(NamedTuple):
    """A piece of a text; special tokens count only in what a template wrote."""

    text: str
    is_template: bool = False


class LiteralEncoder:
    """A tokenizer's encoding, but for special tokens that are written in a text.

    A text without any is encoded by the tokenizer itself, whole, so that its ids are exactly
    those of the library. Only one with some is encoded by a copy of the tokenizer that knows
    no special tokens but the template's.

    Args:
        templates: Texts of a chat template. Tokens in them steer the model, whether the tokenizer
            calls them special or not, and so stay text elsewhere.
    """

    def __init__(self, tokenizer: Any, templates: Sequence[str] = ()) -> None:
        self._tokenizer = tokenizer
        self._controls = _controls(tokenizer, templates)
        names = sorted((token.content for token in self._controls.values()), key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, names)) or r"(?!)")
        self._ids = {token.content: i for i, token in self._controls.items()}

    def encode(self, parts: Sequence[Part], fresh: bool = False) -> list[int]:
        """Ids of the parts as one text.

        Args:
            fresh: Add the tokens that the tokenizer puts around every text of its own.

        Raises:
            InputError: A text holds a special token that cannot be told from text.
        """
        text = "".join(part.text for part in parts)
        ids = list(self._tokenizer(text, add_special_tokens=fresh)["input_ids"])
        expected = self._expected(parts, fresh)
        unknown = self._tokenizer.unk_token
        if self._count(ids) == expected and not (unknown and len(unknown) > 1 and unknown in text):
            return ids
        ids = self._encode_apart(parts, fresh)
        if foreign := self._count(ids) - expected:
            names = ", ".join(repr(self._controls[i].content) for i in foreign)
            raise InputError(
                f"a text holds {names}, which the tokenizer always reads as a special token: "
                "take it out of the data"
            )
        return ids

    def _expected(self, parts: Sequence[Part], fresh: bool) -> Counter[int]:
        written = Counter(
            self._ids[name]
            for part in parts
            if part.is_template
            for name in self._pattern.findall(part.text)
        )
        return written + self._frame if fresh else written

    def _count(self, ids: Sequence[int]) -> Counter[int]:
        return Counter(i for i in ids if i in self._controls)

    @cached_property
    def _frame(self) -> Counter[int]:
        """Special tokens that the tokenizer puts around any text."""
        return self._count(self._tokenizer("a")["input_ids"])

    def _encode_apart(self, parts: Sequence[Part], fresh: bool) -> list[int]:
        if any(_MARK in part.text for part in parts):
            raise InputError(
                "a text holds both a special token and the character U+F5EA1: take one of them out"
            )
        backend, real = self._apart
        text = "".join(self._named(part) for part in parts)
        if backend is None:
            if any(part.is_template for part in parts):
                raise InputError(
                    f"a text holds a special token ({self._pattern.findall(text)[:3]}), which the "
                    f"tokenizer {type(self._tokenizer).__name__} cannot take as text: take it out"
                )
            encoded = self._tokenizer(text, add_special_tokens=fresh, split_special_tokens=True)
            return list(encoded["input_ids"])
        return [real.get(i, i) for i in backend.encode(text, add_special_tokens=fresh).ids]

    def _named(self, part: Part) -> str:
        if not part.is_template or self._apart[0] is None:
            return part.text
        return self._pattern.sub(lambda found: _alias(self._ids[found[0]]), part.text)

    @cached_property
    def _apart(self) -> tuple[Any, dict[int, int]]:
        """A copy that takes special tokens as text and knows them by aliases; real ids by alias."""
        if not getattr(self._tokenizer, "is_fast", False):
            return None, {}
        backend = copy.deepcopy(self._tokenizer.backend_tokenizer)
        backend.no_truncation()
        backend.no_padding()
        backend.add_special_tokens(
            [AddedToken(token.content, special=True) for token in self._controls.values()]
        )
        backend.encode_special_tokens = True
        backend.add_tokens(
            [
                AddedToken(_alias(i), lstrip=token.lstrip, rstrip=token.rstrip, normalized=False)
                for i, token in self._controls.items()
            ]
        )
        return backend, {backend.token_to_id(_alias(i)): i for i in self._controls}


def _alias(token_id: int) -> str:
    return f"{_MARK}{token_id}{_MARK}"


def _controls(tokenizer: Any, templates: Sequence[str]) -> dict[int, AddedToken]:
    """The tokens that text must never become, by id.

    Not the one for unknown text, which any text may become; nor a special token of a single
    character, which is a word like any other that somebody chose, for example, for padding.
    """
    added = dict(tokenizer.added_tokens_decoder)
    for token_id, name in zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True):
        added.setdefault(token_id, AddedToken(name, special=True))
    return {
        i: token
        for i, token in added.items()
        if (token.special or (token.content.strip() and any(token.content in t for t in templates)))
        and i != tokenizer.unk_token_id
        and len(token.content) > 1
    }
