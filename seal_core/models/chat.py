"""Puts one question through a model's chat template, and finds what ends the reply.

Templates are programs of the model's authors. What they write is found by rendering: the frame
around a question, the place of the reply, and the token that ends it.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from jinja2 import TemplateError

from seal_core.engines import ChatOptions
from seal_core.errors import InputError
from seal_core.models.literal import (
    encode_text,
    first_special,
    has_special,
    last_special,
    ordinary_marks,
)

_QUESTION = "Qx7uestion"
_REPLY = "Rx7eply"
"""Words that stand for the texts of a conversation and occur in no template."""


@dataclass(frozen=True, slots=True)
class _Frame:
    """What a template writes around the texts.

    Attributes:
        opens: Whether a reply that is asked for begins after `add_generation_prompt`; else it
            does after what stands before a reply that is there.
        alike: Whether these are the same.
        marks: What it writes of the tokenizer's added tokens that are not special.
        end_id: The added token that follows a reply; None if none does.
    """

    opens: bool
    alike: bool
    marks: tuple[str, ...]
    end_id: int | None


class Chat:
    """The chat template of one tokenizer.

    Args:
        name: Of the model, for messages.
    """

    def __init__(self, tokenizer: Any, options: ChatOptions, name: str) -> None:
        self._tokenizer, self._options, self._name = tokenizer, options, name

    @property
    def end_id(self) -> int | None:
        """The token that ends the assistant's turn; None if the template writes none.

        Raises:
            InputError: The template cannot be used.
        """
        return self._frame.end_id

    def check(self) -> None:
        """Passes if the template can be used.

        Raises:
            InputError: It cannot; says why.
        """
        if self.end_id is None:
            raise self._unusable("no special token ends its replies, so answers would not end")

    def prompt(self, question: str, trained: bool = False) -> list[int]:
        """Ids of a conversation that asks `question`, up to where the reply begins.

        Args:
            trained: The reply is there, to be trained on: it follows what the template puts
                before one, without the thoughts that a model may be asked for.

        Raises:
            InputError: The template cannot be used, or not for this question.
        """
        self.check_text(question)
        text = self.text(question, trained)
        if not has_special(self._tokenizer, question):
            # The template writes the special tokens of a fresh sequence itself.
            return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])
        ids = self._around(text, question, trained)
        # The same cut must change nothing where nothing needs it.
        plain = question[: first_special(self._tokenizer, question)] + "."
        shorter = self.text(plain, trained)
        usual = self._tokenizer(shorter, add_special_tokens=False)["input_ids"]
        if self._around(shorter, plain, trained) != list(usual):
            raise InputError(
                f"a question to {self._name} contains the text of a special token, which its "
                "tokenizer cannot tell from the token: take it out of the passage"
            )
        return ids

    def check_text(self, text: str) -> None:
        """Passes if nothing in a question or reply would become a mark of the template.

        Raises:
            InputError: Something would, and no tokenizer could be kept from it.
        """
        for mark in self._frame.marks:
            if mark in text:
                raise InputError(
                    f"a question or reply contains {mark!r}, with which the chat template of "
                    f"{self._name} marks its turns: take it out of the passage"
                )

    def text(self, question: str, trained: bool = False) -> str:
        """The same as text, in which special tokens cannot be told from what looks like them."""
        if self._frame.alike or (self._frame.opens and not trained):
            return self._render([_user(question)], True)
        whole = self._render([_user(question), _assistant(_REPLY)], False)
        return whole[: whole.rindex(_REPLY)]

    @cached_property
    def _frame(self) -> _Frame:
        if not self._tokenizer.chat_template:
            raise InputError(
                f"the tokenizer of {self._name} has no chat template: use rows.variant = 'base'"
            )
        opened = self._render([_user(_QUESTION)], True)
        whole = self._render([_user(_QUESTION), _assistant(_REPLY)], False)
        for text, word, what in ((opened, _QUESTION, "question"), (whole, _REPLY, "reply")):
            if text.count(word) != 1:
                raise self._unusable(f"it writes the {what} {text.count(word)} times")
        before, _, after = whole.partition(_REPLY)
        begun, found = opened.rstrip(), before.rstrip()
        # One may go on where the other ends: with a thought, or a channel for the reply.
        if not (begun.startswith(found) or found.startswith(begun)):
            raise self._unusable(
                "it begins a reply that is asked for otherwise than one that is there already"
            )
        alike = begun == found
        marks = tuple(m for m in ordinary_marks(self._tokenizer) if m in opened or m in whole)
        return _Frame(alike or self._options.thinking, alike, marks, self._end_id(after))

    def _end_id(self, after: str) -> int | None:
        added = self._tokenizer.added_tokens_decoder
        ids = self._tokenizer(after, add_special_tokens=False)["input_ids"]
        return next((id_ for id_ in ids if id_ in added), None)

    def _around(self, text: str, question: str, trained: bool) -> list[int]:
        """Ids of a rendered text whose question is read as text, and nothing else.

        Tokenizers cut a text at its special tokens and read the pieces between them alone, so
        the piece with the question can be read apart.
        """
        head, _, tail = self.text(_QUESTION, trained).partition(_QUESTION)
        middle = text[len(head) : len(text) - len(tail)]
        if text != head + middle + tail or middle.strip() != question.strip():
            raise InputError(
                f"the chat template of {self._name} changes a question that contains the text of "
                "a special token: take it out of the passage"
            )
        start, end = last_special(self._tokenizer, head), first_special(self._tokenizer, tail)
        piece = head[start:] + middle + tail[:end]
        before, after = (
            self._tokenizer(part, add_special_tokens=False)["input_ids"] if part else []
            for part in (head[:start], tail[end:])
        )
        return [*before, *encode_text(self._tokenizer, piece, fresh=False), *after]

    def _render(self, messages: Sequence[dict[str, str]], opens: bool) -> str:
        date = datetime.date.fromisoformat(self._options.date)
        try:
            return self._tokenizer.apply_chat_template(
                list(messages),
                add_generation_prompt=opens,
                tokenize=False,
                # Each family has its own word for the switch.
                enable_thinking=self._options.thinking,
                thinking=self._options.thinking,
                # Instead of the clock's, which would give each day other tokens.
                strftime_now=date.strftime,
            )
        except (TemplateError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise self._unusable(" ".join(str(error).split())) from error

    def _unusable(self, reason: str) -> InputError:
        return InputError(
            f"the chat template of {self._name} cannot be used: {reason}: use rows.variant = 'base'"
        )


def _user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def _assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}
