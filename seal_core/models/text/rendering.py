"""Renders conversations with a tokenizer's chat template, told the same in every place."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from jinja2 import TemplateError

from seal_core.engines import ChatSettings

TEMPLATE_FAILURES = (
    *(TemplateError, ValueError, TypeError, LookupError, AttributeError),
    *(ArithmeticError, RecursionError, MemoryError),
)
"""What a template that cannot render a conversation raises."""


Message = dict[str, str]


def message(role: str, text: str) -> Message:
    """One turn of a conversation."""
    return {"role": role, "content": text}


def render(
    tokenizer: Any,
    messages: Sequence[Message],
    settings: ChatSettings,
    add_generation_prompt: bool = False,
) -> str:
    """The conversation as the template writes it; raises one of `TEMPLATE_FAILURES`."""
    date = datetime.fromisoformat(settings.date)
    return tokenizer.apply_chat_template(
        list(messages),
        add_generation_prompt=add_generation_prompt,
        tokenize=False,
        # Qwen3 and SmolLM3 know the first name, Granite and DeepSeek the second.
        enable_thinking=settings.thinking,
        thinking=settings.thinking,
        strftime_now=date.strftime,
        date_string=date.strftime("%d %b %Y"),
    )


def samples(tokenizer: Any) -> str:
    """Conversations of each kind that the template can render, one after another."""
    user, assistant = message("user", "a"), message("assistant", "a")
    found = []
    for thinking in (False, True):
        for messages in (
            [user],
            [user, assistant, user],
            [message("system", "a"), user],
            [user, assistant, message("tool", "a")],
        ):
            with suppress(*TEMPLATE_FAILURES):
                found.append(render(tokenizer, messages, ChatSettings(thinking=thinking), True))
    return "\n".join(found)
