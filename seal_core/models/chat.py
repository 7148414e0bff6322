"""Finds out what a chat template writes around a message and its reply, or refuses it by name."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from transformers import AutoTokenizer

from seal_core.engines import ChatOptions
from seal_core.errors import InputError
from seal_core.models.literal import Part

_USER, _REPLY = "Xuserq7X", "Xreplyq7X"
_SPACES = "\n \n"
_THINK, _THOUGHT = "<think>", "</think>"


@dataclass(frozen=True, slots=True)
class Trim:
    """What a template takes off both ends of a message: characters as `str.strip` takes them.

    Attributes:
        left, right: "" for nothing, None for any white space.
    """

    left: str | None
    right: str | None

    def __call__(self, text: str) -> str:
        """The message as the template writes it."""
        return text.lstrip(self.left).rstrip(self.right)


@dataclass(frozen=True, slots=True)
class ChatFormat:
    """The texts of a template around one user message and its reply.

    Attributes:
        before: All that stands before the user's message, a system message included.
        asking: What follows the message when a reply is asked for.
        opening: What follows it in a training row; `asking`, unless the model thinks first.
        lead: White space with which the template begins a reply.
        ending: What follows the reply, up to the token that ends the turn, included.
        end_id: That token.
        thinks: Whether replies begin with thinking.
        think_ids: The tokens that begin and end thinking; None where there is none.
    """

    before: str
    asking: str
    opening: str
    lead: str
    ending: str
    end_id: int
    trim_user: Trim
    trim_reply: Trim
    thinks: bool = False
    think_ids: tuple[int | None, int] | None = None

    @property
    def templates(self) -> tuple[str, ...]:
        """All texts that the template itself writes."""
        return self.before, self.asking, self.opening, self.ending

    def prompt(self, user: str) -> list[Part]:
        """A conversation up to the reply that is asked for."""
        return [*self._question(user), Part(self.asking, True)]

    def row(self, user: str, reply: str) -> tuple[list[Part], list[Part]]:
        """A conversation up to the reply, and the reply with its end."""
        context = [*self._question(user), Part(self.opening, True)]
        return context, [Part(self.lead + self.trim_reply(reply)), Part(self.ending, True)]

    def without_thinking(self, ids: list[int]) -> list[int]:
        """What a model says once it has thought.

        Raises:
            InputError: It never came to an end of thinking.
        """
        if self.think_ids is None:
            return ids
        begin, end = self.think_ids
        if end in ids:
            return ids[len(ids) - ids[::-1].index(end) :]
        if begin in ids or _is_open(self.asking):
            raise InputError(
                f"the model was still thinking after {len(ids)} tokens: raise max_tokens, or set "
                "chat.thinking = false"
            )
        return ids

    def _question(self, user: str) -> list[Part]:
        return [Part(self.before, True), Part(self.trim_user(user))]


def check_chat(path: str, revision: str | None, options: ChatOptions) -> ChatFormat:
    """Reads the chat template of a model's tokenizer, before the model is loaded.

    Raises:
        InputError: There is none, or it cannot be used, and why.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            path, revision=revision or "main", trust_remote_code=False
        )
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"cannot load the tokenizer of {path}: {error}") from error
    return read_template(tokenizer, options, path)


def read_template(tokenizer: Any, options: ChatOptions, name: str) -> ChatFormat:
    """Renders conversations and looks at what stands around their messages.

    Args:
        name: Of the model, for refusals.

    Raises:
        InputError: There is no template, or it cannot be used, and why.
    """
    template = _Template(tokenizer, options, name)
    asked = template.render(_USER)
    talk = template.render(_USER, _REPLY)
    before, after = template.split(asked, _USER)
    before_too, rest = template.split(talk, _USER)
    head, tail = template.split(rest, _REPLY)
    if before != before_too:
        raise template.refusal("begins a conversation in another way once it has a reply")
    if options.system and options.system.strip() not in before:
        raise template.refusal("leaves the system message out: leave chat.system out")
    asking, opening, lead = _openings(template, after, head)
    ending, end_id = _ending(template, tail)
    return ChatFormat(
        before=before,
        asking=asking,
        opening=opening,
        lead=lead,
        ending=ending,
        end_id=end_id,
        trim_user=template.trim(_USER, talk),
        trim_reply=template.trim(_REPLY, talk),
        thinks=options.thinking,
        think_ids=template.think_ids() if options.thinking else None,
    )


class _Template:
    """A tokenizer's template with a run's options."""

    def __init__(self, tokenizer: Any, options: ChatOptions, name: str) -> None:
        self.tokenizer, self.options, self.name = tokenizer, options, name
        if not getattr(tokenizer, "chat_template", None):
            raise InputError(
                f"the tokenizer of {name} has no chat template: set rows.variant = 'base', or use "
                "the instruction-tuned model"
            )
        self._source = self._call("get_chat_template")
        self._moment = datetime.fromisoformat(options.date)

    def refusal(self, what: str) -> InputError:
        """The error that says why the template cannot be used."""
        return InputError(
            f"the chat template of {self.name} cannot be used for rows.variant = 'instruct': it "
            f"{what}"
        )

    def render(self, user: str, reply: str | None = None) -> str:
        """A conversation as text; without a reply, up to where it begins."""
        messages = [{"role": "user", "content": user}]
        if self.options.system:
            messages.insert(0, {"role": "system", "content": self.options.system})
        if reply is not None:
            messages.append({"role": "assistant", "content": reply})
        return self._call(
            "apply_chat_template",
            messages,
            tokenize=False,
            add_generation_prompt=reply is None,
            # The names of the switch in the families that have one.
            enable_thinking=self.options.thinking,
            thinking=self.options.thinking,
            # A template that asks for today's date gets the run's.
            strftime_now=self._moment.strftime,
        )

    def split(self, text: str, message: str) -> tuple[str, str]:
        """What stands before and after a message."""
        if text.count(message) != 1:
            role = "user" if message == _USER else "assistant"
            raise self.refusal(f"writes the {role}'s message {text.count(message)} times, not once")
        before, _, after = text.partition(message)
        return before, after

    def trim(self, message: str, plain: str) -> Trim:
        """What becomes of white space around a message."""
        spaced = f"{_SPACES}{message}{_SPACES}"
        reply = spaced if message == _REPLY else _REPLY
        talk = self.render(spaced if message == _USER else _USER, reply)
        (left, right), (bare_left, bare_right) = (
            self.split(talk, message),
            self.split(plain, message),
        )
        kept_left = left.removeprefix(bare_left)
        kept_right = right.removesuffix(bare_right)
        sides = {"": None, _SPACES: ""}
        lefts, rights = {**sides, _SPACES[1:]: "\n"}, {**sides, _SPACES[:-1]: "\n"}
        if kept_left not in lefts or kept_right not in rights:
            raise self.refusal("changes the messages that it writes")
        return Trim(lefts[kept_left], rights[kept_right])

    def think_ids(self) -> tuple[int | None, int]:
        """The tokens around thinking."""
        vocabulary = self.tokenizer.get_vocab()
        if _THOUGHT not in self._source or _THOUGHT not in vocabulary:
            raise self.refusal(
                f"has no thinking that ends with the token {_THOUGHT}: set chat.thinking = false"
            )
        return vocabulary.get(_THINK), vocabulary[_THOUGHT]

    def _call(self, method: str, *arguments: Any, **options: Any) -> Any:
        try:
            return getattr(self.tokenizer, method)(*arguments, **options)
        except Exception as error:  # A template is somebody's program, and may fail in any way.
            also = " (chat.system is set: leave it out?)" if self.options.system else ""
            raise self.refusal(f"fails: {type(error).__name__}: {error}{also}") from error


def _openings(template: _Template, after: str, head: str) -> tuple[str, str, str]:
    """See `ChatFormat`: `asking`, `opening` and `lead`.

    Args:
        after: What follows the message when a reply is asked for.
        head: What stands between message and reply in a conversation.
    """
    if not head.startswith(after) and not after.startswith(head):
        raise template.refusal(
            f"begins a reply with {head[:40]!r}, and asks for one with {after[:40]!r}"
        )
    if template.options.thinking:
        # The model thinks before it replies. What it is trained on are replies without thinking.
        opening = head.rstrip(" ")
        return after, opening, head[len(opening) :]
    if _is_open(after):
        raise template.refusal("always lets the model think first: set chat.thinking = true")
    if after.startswith(head):
        return after, after, ""
    extra = head[len(after) :]
    # Marks before the reply belong to the prompt (a channel, an empty thought, or all of the
    # opening where a template does not ask for replies); a space is the reply's first.
    asking = head.rstrip(" ") if extra.strip() else after
    return asking, asking, head[len(asking) :]


def _ending(template: _Template, tail: str) -> tuple[str, int]:
    """See `ChatFormat`: `ending` and `end_id`."""
    tokenizer = template.tokenizer
    end = tail.lstrip()
    if not end:
        # Nothing marks the end of a turn: as in a plain text, the end token does.
        if tokenizer.eos_token is None:
            raise template.refusal("ends replies with nothing, and there is no eos_token")
        return tokenizer.eos_token, tokenizer.eos_token_id
    added = ((token.content, i) for i, token in tokenizer.added_tokens_decoder.items())
    found = [(name, i) for name, i in added if name.strip() and end.startswith(name)]
    if not found:
        raise template.refusal(
            f"ends a reply with {end[:20]!r}, which begins with no special token"
        )
    name, end_id = max(found, key=lambda pair: len(pair[0]))
    return tail[: len(tail) - len(end)] + name, end_id


def _is_open(text: str) -> bool:
    """Whether thinking was begun and not ended."""
    return text.rfind(_THINK) > text.rfind(_THOUGHT)
