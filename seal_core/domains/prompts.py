"""Versioned prompts: what is sent to a model, word for word.

A prompt's text never changes under its id; a new wording is a new version. The knowledge prompts
are those of the paper (Zweiger et al. 2025, appendix B), byte for byte as in the published
result files; `no-prompt@1` shows the passage alone and lets the policy go on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from seal_core.domains.base import PromptText
from seal_core.errors import InputError
from seal_core.minilm import prompts as minilm

Purpose = Literal["edit", "answer", "answer_in_context"]

_FIELD = re.compile(r"\{(title|context|question)\}")
_PASSAGE = "Passage:\n{title}\n{context}\n\n"


@dataclass(frozen=True, slots=True)
class Prompt:
    """A template and how its completion ends.

    Attributes:
        template: Text with the fields `{title}`, `{context}` and `{question}`.
        stop: Strings that end a completion of plain text. A chat reply has none: the model's
            end-of-turn token ends it.
    """

    prompt_id: str
    purpose: Purpose
    template: str
    stop: tuple[str, ...] = ()

    def render(
        self, title: str = "", context: str = "", question: str = "", chat: bool = False
    ) -> PromptText:
        """Fills the fields in one pass, so that braces in a passage stay what they are."""
        values = {"title": title, "context": context, "question": question}
        text = _FIELD.sub(lambda field: values[field[1]], self.template)
        return PromptText(self.prompt_id, text, () if chat else self.stop, chat)


def get_prompt(prompt_id: str, purpose: Purpose | None = None) -> Prompt:
    """The prompt of this id.

    Raises:
        InputError: unknown id, or a prompt for another purpose; lists those that fit.
    """
    prompt = _PROMPTS.get(prompt_id)
    if prompt is not None and purpose in (None, prompt.purpose):
        return prompt
    problem = "is not known" if prompt is None else f"is for {prompt.purpose!r}, not {purpose!r}"
    fitting = ", ".join(prompt_ids(purpose))
    raise InputError(f"the prompt {prompt_id!r} {problem}: use one of {fitting}")


def prompt_ids(purpose: Purpose | None = None) -> tuple[str, ...]:
    """Ids of all prompts, or of those for one purpose."""
    return tuple(p.prompt_id for p in _PROMPTS.values() if purpose in (None, p.purpose))


def _implications(length: str) -> str:
    return (
        f"Let's read the following passage and produce a {length}list of implications derived "
        f"directly or indirectly from the content.\n\n{_PASSAGE}Implications:\n"
    )


# An answer of a base model is its first line: what follows is the next made-up question.
_LINE = ("\n",)

_ALL = (
    Prompt("implications@1", "edit", _implications("")),
    Prompt("implications-long@1", "edit", _implications("long ")),
    Prompt("implications-very-long@1", "edit", _implications("very long ")),
    Prompt(
        "rewrite@1",
        "edit",
        "Let's read the following passage and rewrite it in a few different ways, each one "
        f"separated by a newline.\n\n{_PASSAGE}Rewritten passages:\n",
    ),
    Prompt(
        "self-qa@1",
        "edit",
        "Let's read the following passage and rewrite it in a question-answer format.\n\n"
        f"{_PASSAGE}Question 1: ",
    ),
    Prompt("no-prompt@1", "edit", _PASSAGE),
    Prompt(
        "answer@1",
        "answer",
        "Let's answer a question directly and concisely.\nQuestion: {question}\nAnswer:\n",
        _LINE,
    ),
    Prompt(
        "answer-in-context@1",
        "answer_in_context",
        "Let's read the following passage and answer a question directly and concisely.\n\n"
        f"{_PASSAGE}Question: {{question}}\nAnswer:\n",
        _LINE,
    ),
    Prompt("minilm-edit@1", "edit", minilm.EDIT_PROMPT),
    Prompt("minilm-answer@1", "answer", minilm.ANSWER_PROMPT, _LINE),
    Prompt("minilm-answer-in-context@1", "answer_in_context", minilm.CONTEXT_ANSWER_PROMPT, _LINE),
)

_PROMPTS = {prompt.prompt_id: prompt for prompt in _ALL}
