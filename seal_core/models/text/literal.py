"""Encodes text in which what looks like a control token stays text.

A tokenizer finds its special tokens in any text, so that `<|im_end|>` in a passage would become
the token that ends a turn. Here only what a chat template writes becomes such a token. Text that
holds no such token is encoded by the tokenizer itself. Other text goes through a copy of it that
knows its control tokens by other names, so that text cannot hold them; all ids are the same.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from functools import cached_property
from typing import Any

from tokenizers import Tokenizer

from seal_core.errors import InputError
from seal_core.models.text.rendering import samples

_HIDDEN = "\ufdd0{}\ufdd1"
_ALIAS = "\ufdd2{}\ufdd3"
"""Noncharacters of Unicode: no text has them, and no normalizer touches them."""

_HIDDEN_PATTERN = re.compile("\ufdd0([0-9]+)\ufdd1")
_RESERVED = re.compile("[\ufdd0-\ufdd3]")
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
_BRACKETS = re.compile(r"[<\[{(|].*\S.*[>\]})|]", re.S)


class LiteralEncoder:
    """A tokenizer that tells a template's control tokens from text that looks like them.

    Control tokens are the special ones, and those added ones in brackets that the chat template
    writes, at once or from pieces (`<think>` of Qwen3 is one, `<table>` of Gemma is not).
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        ids = _control_tokens(tokenizer)
        self._names = sorted(ids, key=lambda name: (-len(name), name))
        self._numbers = {name: number for number, name in enumerate(self._names)}
        self._pattern = re.compile("|".join(map(re.escape, self._names)) or r"(?!)")
        self.ids = ids
        """Id of each control token."""

    def hide(self, text: str) -> str:
        """The text with a placeholder for each control token in it; `encode` puts them back.

        Raises:
            InputError: The text has a noncharacter of the placeholders.
        """
        if found := _RESERVED.search(text):
            raise InputError(
                f"the text has U+{ord(found[0]):04X}, which is no character: take it out"
            )
        return self._pattern.sub(lambda m: _HIDDEN.format(self._numbers[m[0]]), text)

    def reveal(self, text: str) -> str:
        """Inverse of `hide`."""
        return _HIDDEN_PATTERN.sub(lambda m: self._names[int(m[1])], text)

    def encode(self, text: str, special: bool = False) -> list[int]:
        """Ids of a text in which control tokens are meant, but for those that are hidden.

        Args:
            special: Add what the tokenizer puts around a fresh sequence.

        Raises:
            InputError: The tokenizer cannot write the text of a hidden token as text, or reads
                other control tokens than are meant, as its normalization may make it.
        """
        if _HIDDEN_PATTERN.search(text):
            aliased = self._pattern.sub(lambda m: _ALIAS.format(self._numbers[m[0]]), text)
            ids = list(self._copy.encode(self.reveal(aliased), add_special_tokens=special).ids)
        else:
            ids = self._plain(text, special)
        self._check(ids, Counter(self.ids[name] for name in self._pattern.findall(text)), special)
        return ids

    def encode_text(self, text: str, special: bool = False) -> list[int]:
        """Ids of a text without any control token but those around a fresh sequence."""
        return self.encode(self.hide(text), special)

    def first_end(self, text: str) -> int | None:
        """Where the first control token in a text ends; None if there is none."""
        found = self._pattern.search(text)
        return found.end() if found else None

    def _plain(self, text: str, special: bool) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=special)["input_ids"])

    def _check(self, ids: list[int], meant: Counter[int], special: bool) -> None:
        """Passes if the control tokens among the ids are those that are meant."""
        control = set(self.ids.values())
        found = Counter(token_id for token_id in ids if token_id in control)
        if special:
            found -= self._around
        if lost := meant - found:
            raise InputError(
                f"the tokenizer reads {self._name(lost)!r} as text in a conversation, not as a "
                "token: add it to the tokenizer with normalized=False"
            )
        if more := Counter({i: n for i, n in found.items() if i not in self._fallbacks}) - meant:
            raise InputError(f"the tokenizer reads {self._name(more)!r} in the text: take it out")

    def _name(self, some: Counter[int]) -> str:
        return next(name for name, token_id in self.ids.items() if token_id in some)

    @cached_property
    def _fallbacks(self) -> set[int]:
        """Control tokens that stand for characters which the vocabulary lacks."""
        unknown = getattr(self._tokenizer, "unk_token", None)
        return {self.ids[name] for name in self._names if name == unknown or _BYTE.fullmatch(name)}

    @cached_property
    def _around(self) -> Counter[int]:
        """What the tokenizer puts around a fresh sequence."""
        return Counter(self._plain("", special=True))

    @cached_property
    def _copy(self) -> Tokenizer:
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise InputError(
                f"the text has a special token of the tokenizer, as {self._names[0]!r}, and "
                f"{type(self._tokenizer).__name__} cannot keep it text: save it as tokenizer.json"
            )
        copy = Tokenizer.from_str(json.dumps(_renamed(json.loads(backend.to_str()), self._numbers)))
        copy.no_truncation()
        copy.no_padding()
        for name, number in self._numbers.items():
            if copy.token_to_id(_ALIAS.format(number)) != self.ids[name]:
                raise InputError(f"the text of {name!r} cannot be told from the token: take it out")
        return copy


def _control_tokens(tokenizer: Any) -> dict[str, int]:
    added = {token.content: token_id for token_id, token in tokenizer.added_tokens_decoder.items()}
    plain = {
        token.content for token in tokenizer.added_tokens_decoder.values() if not token.special
    }
    written = _written(tokenizer) if any(map(_BRACKETS.fullmatch, plain)) else ""
    found = {
        name: token_id
        for name, token_id in added.items()
        if name not in plain or (_BRACKETS.fullmatch(name) and name in written)
    }
    for name in tokenizer.all_special_tokens:
        found.setdefault(name, tokenizer.convert_tokens_to_ids(name))
    # A lone character, as the `!` that pads CLIP, is text wherever it stands in text.
    return {name: token_id for name, token_id in found.items() if len(name) > 1}


def _written(tokenizer: Any) -> str:
    """All that a chat template may write: its source has the tokens of calls and tools, and what
    it renders has those that it puts together, as `'<|' + role + '|>'`."""
    template = tokenizer.chat_template
    if not template:
        return ""
    source = template if isinstance(template, str) else "".join(template.values())
    return source + samples(tokenizer)


def _renamed(plain: dict[str, Any], numbers: dict[str, int]) -> dict[str, Any]:
    """A tokenizer's JSON in which the tokens with a number have their alias as name.

    Nothing builds them from characters any more, so that the merges that did are left out.
    """

    def name_of(token: Any) -> Any:
        return _ALIAS.format(numbers[token]) if token in numbers else token

    for token in plain["added_tokens"]:
        token["content"] = name_of(token["content"])
    model = plain["model"]
    vocabulary = model["vocab"]
    if isinstance(vocabulary, dict):
        model["vocab"] = {name_of(token): token_id for token, token_id in vocabulary.items()}
    else:
        model["vocab"] = [[name_of(token), score] for token, score in vocabulary]
    if "merges" in model:
        model["merges"] = [
            (a, b) for a, b in model["merges"] if numbers.keys().isdisjoint((a, b, a + b))
        ]
    if model.get("unk_token") is not None:
        model["unk_token"] = name_of(model["unk_token"])
    return plain
