"""Finds in a model's chat template what comes before a reply and what ends it.

Nothing is known of templates but what they write: conversations of markers show what stands
around the words of a user and a reply. Each text is then rendered in its place and looked up
there, so that what is read or trained is what the template writes, or is refused. Text of users,
replies and the system message stays text whatever it looks like, see `literal`; the date is the
configuration's, never the clock's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from typing import Any

from seal_core.engines import ChatSettings
from seal_core.errors import InputError
from seal_core.models.text.literal import LiteralEncoder
from seal_core.models.text.rendering import TEMPLATE_FAILURES, Message, message, render

_SYSTEM, _USER, _REPLY, _NEXT = (f"\ufdd0{name}\ufdd1" for name in ("s", "user", "reply", "next"))
"""Markers of noncharacters, which `LiteralEncoder.hide` lets no text have."""

_PROBE = 'It\'s <i>A</i> & "B"  {{ c }}\n\n\tAT&amp;T \\n 10% É e\u0301 漢字 \U0001f642.'
"""What a template that escapes, strips or rewrites would change."""

_NO_SYSTEM = "Leave chat.system empty. Or: "
_LESS_SYSTEM = (
    "Take what it changes out of chat.system (no thought is asked for unless chat.thinking is "
    "set). Or: "
)

_THOUGHT_END = "</think>"
_THOUGHT = "<think>"
_LAST_TAG = re.compile(r"[<\[][^<>\[\]/]+[>\]]\s*\Z")


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
        InputError: The template is missing or cannot be used, for the reason that is named. The
            same from each method whose text the template changes.
    """

    def __init__(
        self, tokenizer: Any, literal: LiteralEncoder, settings: ChatSettings, name: str
    ) -> None:
        self._tokenizer = tokenizer
        self._literal = literal
        self._settings = settings
        self._name = name
        if not tokenizer.chat_template:
            raise self._refusal("there is none, as in most base models")
        # A blank system message is none.
        self._system = literal.hide(settings.system) if settings.system.strip() else ""
        self._check_system()
        self._around_user = self._split(self._render(_user(_USER), prompt=True), _USER)
        before, self._after = self._split(self._render(_turn(_USER, _REPLY)), _REPLY)
        self._around_asked = self._split(before, _USER)
        self.end = self._find_end()
        self._generation_prompt(_PROBE)
        self.end_id = self._encode_probe(self.row_text(_PROBE, _PROBE))[-1]
        if settings.thinking and _THOUGHT_END not in tokenizer.get_chat_template():
            raise self._refusal(f"chat.thinking is set, and it knows no thought ({_THOUGHT_END})")

    def prompt_text(self, user: str) -> str:
        """What an answer follows, rendered; text that looks like a control token is hidden in it.

        It is the generation prompt. With thinking off, it is what the template writes before a
        reply, where the generation prompt opens a thought or leaves the reply's header to the
        model.
        """
        if self._settings.thinking:
            return self._generation_prompt(user)
        return self._opening(user, self._before_reply(user))

    def prompt(self, user: str) -> list[int]:
        """Ids of what an answer follows."""
        return self._literal.encode(self.prompt_text(user))

    def row_text(self, user: str, reply: str) -> str:
        """The conversation up to the token that ends the reply, as `prompt_text`."""
        return self._whole(user, reply, self._before_reply(user))

    def row(self, user: str, reply: str) -> ChatRow:
        """Ids of the conversation up to the token that ends the reply."""
        before = self._before_reply(user)
        text, context = self._whole(user, reply, before), self._opening(user, before)
        if not before.startswith(context):
            context = before.rstrip(" ")
        ids, context_ids = self._literal.encode(text), self._literal.encode(context)
        # The reply's first token may hold the prompt's last characters: it is a target then.
        pairs = enumerate(zip_longest(context_ids, ids))
        joined = next((i for i, (a, b) in pairs if a != b), len(ids))
        return ChatRow(ids, max(1, joined))

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
        said = self._literal.hide(user)
        text = self._render(_user(said), prompt=True)
        self._check_said("the user", said, text, self._around_user)
        return text

    def _before_reply(self, user: str) -> str:
        said = self._literal.hide(user)
        before, _ = self._split(self._render(_turn(said, _REPLY)), _REPLY)
        self._check_said("the user", said, before, self._around_asked)
        return before

    def _whole(self, user: str, reply: str, before: str) -> str:
        said = self._literal.hide(reply)
        text = self._render(_turn(self._literal.hide(user), said))
        self._check_said("the assistant", said, text, (before, self._after))
        return text[: len(text) - len(self._after)] + self.end

    def _opening(self, user: str, before: str) -> str:
        """What an answer without a thought follows; the template writes `before` before a reply."""
        prompt = self._generation_prompt(user)
        if before.startswith(prompt):
            # Space alone is no header, and may belong to the reply's first token.
            header = before.removeprefix(prompt).strip()
            return before.rstrip(" ") if header else prompt
        tag = _LAST_TAG.search(prompt)
        opens_thought = (
            tag
            and before.startswith(prompt[: tag.start()])
            and not before.startswith(prompt.rstrip())
        )
        return before.rstrip(" ") if opens_thought else prompt

    def _check_system(self) -> None:
        if not self._system:
            return
        said, self._system = self._system, _SYSTEM
        marked = self._prompt_and_row()
        self._system = said
        in_prompt, in_row = (_SYSTEM in text for text in marked)
        if not (in_prompt and in_row):
            where = f" once a reply {'follows' if in_prompt else 'is asked for'}"
            raise self._refusal(
                "chat.system is set, and it leaves the system message out"
                + (where if in_prompt or in_row else ""),
                _NO_SYSTEM,
            )
        for text, whole in zip(marked, self._prompt_and_row(), strict=True):
            around = self._split(text, _SYSTEM)
            self._check_said("the system message", said, whole, around, _LESS_SYSTEM)

    def _prompt_and_row(self) -> tuple[str, str]:
        return self._render(_user(_USER), prompt=True), self._render(_turn(_USER, _REPLY))

    def _encode_probe(self, text: str) -> list[int]:
        try:
            return self._literal.encode(text)
        except InputError as error:
            raise self._refusal(str(error)) from error

    def _find_end(self) -> str:
        for after in self._after_replies():
            if (end := self._literal.first_end(after)) is not None:
                return after[:end]
        raise self._refusal("it writes no token after a reply, so that nothing would end an answer")

    def _after_replies(self) -> Iterator[str]:
        """What follows a reply that ends a conversation; then, what comes before the next turn."""
        asked = self._render(_user(_USER))
        # A template that always writes a generation prompt writes it after the last reply, too.
        always = asked == self._render(_user(_USER), prompt=True)
        if not (always and asked.endswith(self._after)):
            yield self._after
        text = self._render([*_turn(_USER, _REPLY), *_user(_NEXT)])
        yield self._split(text, _REPLY)[1].partition(_NEXT)[0]

    def _split(self, text: str, marker: str) -> tuple[str, str]:
        """What stands before and after a marker."""
        before, found, after = text.rpartition(marker)
        if not found:
            raise self._refusal("it leaves out or changes what a user or the assistant says")
        return before, after

    def _check_said(
        self, who: str, said: str, text: str, around: tuple[str, str], fix: str = ""
    ) -> None:
        """Passes if a rendered text has, in its place, what was said, trimmed at most."""
        before, after = around
        found = text.removeprefix(before).removesuffix(after)
        if f"{before}{found}{after}" == text and found.strip() == said.strip():
            return
        old, new = said.lstrip(), found.lstrip()
        pairs = enumerate(zip_longest(old, new))
        at = next((i for i, (a, b) in pairs if a != b), 0)
        old, new = (self._literal.reveal(text[at : at + 9]) for text in (old, new))
        raise self._refusal(f"it changes what {who} says: {old!r} becomes {new!r}", fix)

    def _render(self, messages: Sequence[Message], prompt: bool = False) -> str:
        if self._system:
            messages = [message("system", self._system), *messages]
        try:
            return render(self._tokenizer, messages, self._settings, prompt)
        except TEMPLATE_FAILURES as error:
            raise self._refusal(f"it fails ({type(error).__name__}: {error})") from error

    def _refusal(self, reason: str, fix: str = "") -> InputError:
        return InputError(
            f"the chat template of {self._name} cannot be used: {reason}. {fix}Set rows.variant to "
            "'base', or give the model another template; see docs/models.md"
        )


def _user(text: str) -> list[Message]:
    return [message("user", text)]


def _turn(user: str, reply: str) -> list[Message]:
    return [message("user", user), message("assistant", reply)]
