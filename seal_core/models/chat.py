"""Renders conversations with a model's chat template, and finds what ends a reply in it.

Nothing is known of templates but what they write: a conversation whose reply is a marker shows
what comes before a reply and what follows it. Text of users, replies and the system message stays
text whatever it looks like, see `literal`; the date is the configuration's, never the clock's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from jinja2 import TemplateError

from seal_core.engines import ChatSettings
from seal_core.errors import InputError
from seal_core.models.literal import LiteralEncoder

_USER, _REPLY, _NEXT = "Zquestionq", "Zreplyq", "Znextq"
_THOUGHT_END = "</think>"
_THOUGHT = "<think>"
_TEMPLATE_FAILURES = (
    *(TemplateError, ValueError, TypeError, LookupError, AttributeError),
    *(ArithmeticError, RecursionError, MemoryError),
)


@dataclass(frozen=True, slots=True)
class ChatRow:
    """One training conversation: all ids, and how many at the start are no target."""

    ids: list[int]
    n_context: int


class ChatTemplate:
    """A tokenizer's chat template as the pipeline uses it.

    Attributes:
        end_id: Token that ends a reply.
        end: What the template writes after a reply, up to and including that token.

    Raises:
        InputError: The template is missing or cannot be used, for the reason that is named.
    """

    def __init__(
        self, tokenizer: Any, literal: LiteralEncoder, settings: ChatSettings, name: str
    ) -> None:
        self._tokenizer = tokenizer
        self._literal = literal
        self._settings = settings
        self._name = name
        self._system = literal.hide(settings.system)
        if not tokenizer.chat_template:
            raise self._refusal("it has none")
        self._check_roles()
        self.end = self._find_end()
        self.end_id = literal.encode(self.end)[-1]
        if settings.thinking and _THOUGHT_END not in tokenizer.get_chat_template():
            raise self._refusal(f"chat.thinking is set, and it knows no thought ({_THOUGHT_END})")

    def prompt_text(self, user: str) -> str:
        """What a reply follows, rendered; text that looks like a control token is hidden in it.

        With thinking off, it is what the template writes before a reply that has no thought. In
        most templates that is the generation prompt; where that opens a thought, or leaves the
        reply's header to the model, it is not.
        """
        return self._generation_prompt(user) if self._settings.thinking else self._opening(user)

    def prompt(self, user: str) -> list[int]:
        """Ids of what a reply follows."""
        return self._literal.encode(self.prompt_text(user))

    def row_text(self, user: str, reply: str) -> str:
        """The conversation up to the token that ends the reply, as `prompt_text`."""
        return self._before_reply(user) + self._literal.hide(reply) + self.end

    def row(self, user: str, reply: str) -> ChatRow:
        """Ids of the conversation up to the token that ends the reply."""
        text, context = self.row_text(user, reply), self._opening(user)
        ids, context_ids = self._literal.encode(text), self._literal.encode(context)
        if ids[: len(context_ids)] != context_ids:
            # The reply's first token would swallow the prompt's last: apart, as when sampled.
            ids = [*context_ids, *self._literal.encode(text[len(context) :])]
        return ChatRow(ids, len(context_ids))

    def reply(self, user: str, ids: Sequence[int], decode: Callable[[Sequence[int]], str]) -> str:
        """Text of a model's reply; with thinking on, what it said after its thought.

        Raises:
            InputError: The thought has no end.
        """
        text = decode(ids)
        if not self._settings.thinking:
            return text
        mark = self._thought_end_id
        if mark is not None and mark in ids:
            said = list(ids)
            return decode(said[len(said) - said[::-1].index(mark) :]).lstrip()
        if _THOUGHT_END in text:
            return text.rpartition(_THOUGHT_END)[2].lstrip()
        opened = self._generation_prompt(user).rstrip().endswith(_THOUGHT)
        if opened or _THOUGHT in self._tokenizer.decode(ids):
            raise InputError(
                f"the reply's {len(ids)} tokens end within its thought: raise max_tokens of the "
                "stage, or set chat.thinking = false"
            )
        return text

    @cached_property
    def _thought_end_id(self) -> int | None:
        found = self._tokenizer.get_added_vocab()
        return found.get(_THOUGHT_END)

    def _generation_prompt(self, user: str) -> str:
        return self._render([*self._start(user)], add_generation_prompt=True)

    def _opening(self, user: str) -> str:
        """What stands before a reply, without spaces that belong to the reply's first token."""
        before, prompt = self._before_reply(user), self._generation_prompt(user)
        rest = before.removeprefix(prompt)
        if before.startswith(prompt) and not rest.strip(" "):
            return prompt
        return before.rstrip(" ")

    def _before_reply(self, user: str) -> str:
        reply = _REPLY
        while reply in user or reply in self._settings.system:
            reply += "q"
        text = self._render([*self._start(user), _message("assistant", reply)])
        before, found, _ = text.rpartition(reply)
        hidden = self._literal.hide(user).strip()
        if not found or hidden not in before:
            raise self._refusal("it leaves out or changes what a user or the assistant says")
        return before

    def _start(self, user: str) -> list[dict[str, str]]:
        asked = _message("user", self._literal.hide(user))
        return [_message("system", self._system), asked] if self._system else [asked]

    def _check_roles(self) -> None:
        if self._system.strip() and self._system.strip() not in self._before_reply(_USER):
            raise self._refusal("chat.system is set, and it leaves the system message out")
        self._before_reply(_USER)

    def _find_end(self) -> str:
        """What follows a reply that ends a conversation; else, what comes before the next turn."""
        start = [*self._start(_USER), _message("assistant", _REPLY)]
        for rest in ([], [_message("user", _NEXT)]):
            _, _, after = self._render([*start, *rest]).rpartition(_REPLY)
            before_next = after.partition(_NEXT)[0]
            if (end := self._literal.first_end(before_next)) is not None:
                return before_next[:end]
        raise self._refusal("it writes no token after a reply, so that nothing would end an answer")

    def _render(self, messages: list[dict[str, str]], add_generation_prompt: bool = False) -> str:
        date = datetime.fromisoformat(self._settings.date)
        try:
            return self._tokenizer.apply_chat_template(
                messages,
                add_generation_prompt=add_generation_prompt,
                tokenize=False,
                # Qwen3 and SmolLM3 know the first name, Granite and DeepSeek the second.
                enable_thinking=self._settings.thinking,
                thinking=self._settings.thinking,
                strftime_now=date.strftime,
                date_string=date.strftime("%d %b %Y"),
            )
        except _TEMPLATE_FAILURES as error:
            raise self._refusal(f"it fails ({type(error).__name__}: {error})") from error

    def _refusal(self, reason: str) -> InputError:
        return InputError(
            f"the chat template of {self._name} cannot be used: {reason}. Set rows.variant to "
            "'base', or give the model another template; see docs/models.md"
        )


def _message(role: str, text: str) -> dict[str, str]:
    return {"role": role, "content": text}
