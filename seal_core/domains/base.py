"""The Domain protocol: everything the loop needs to know about one kind of problem.

The stages talk to a domain only through this protocol; they know no prompt text, no row format
and no grader. A domain knows nothing about engines: it returns text to send, and grades text
that came back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from seal_core.engines import LoraSettings
from seal_core.fingerprint import make_id
from seal_core.types import LeftOut, Problem, Question, Split, TrainRow


@dataclass(frozen=True, slots=True)
class ProblemSet:
    """The problems of a run.

    Attributes:
        train: Problems that the policy is trained on, in the order of their source.
        heldout: Problems that are only ever measured; at least one.
        left_out: What the source has beside them; shown before the run and stored with it.
    """

    train: tuple[Problem, ...]
    heldout: tuple[Problem, ...]
    left_out: tuple[LeftOut, ...] = ()


@dataclass(frozen=True, slots=True)
class PromptText:
    """A prompt ready for an engine.

    Attributes:
        prompt_id: Versioned name of the template it came from.
        text: The prompt; with `chat`, the one user message.
        stop: Strings that end the completion.
        chat: Put `text` through the model's chat template.
    """

    prompt_id: str
    text: str
    stop: tuple[str, ...]
    chat: bool


@dataclass(frozen=True, slots=True)
class Grading:
    """What an answer is worth.

    Attributes:
        text: The answer that counts, of however many were asked for.
        correct: The verdict.
        grades: All gradings by name, each in [0, 1].
    """

    text: str
    correct: bool
    grades: Mapping[str, float]


def new_problem(
    domain: str,
    split: Split,
    title: str,
    context: str,
    asked: Sequence[tuple[str, Sequence[str]]],
) -> Problem:
    """A problem of questions with their reference answers.

    Its ids depend on content only, so a moved file keeps them. The id leaves the split out: the
    same passage with the same questions is the same problem.
    """
    content = [[text, list(references)] for text, references in asked]
    problem_id = make_id("problem", domain, title, context, content)
    questions = tuple(
        Question(make_id("question", problem_id, i, *pair), text, tuple(references))
        for i, ((text, references), pair) in enumerate(zip(asked, content, strict=True))
    )
    return Problem(problem_id, domain, split, title, context, questions)


class Domain(Protocol):
    """Where problems come from, how self-edits are asked for, used and judged."""

    @property
    def name(self) -> str:
        """Goes into every problem's id and `domain` column."""
        ...

    def load(self) -> ProblemSet:
        """Reads and checks all problems.

        Raises:
            InputError: names the file, row and field that is wrong, and the fix.
        """
        ...

    def edit_prompt(self, problem: Problem) -> PromptText:
        """Asks the policy for a self-edit."""
        ...

    def check_edit(self, problem: Problem, text: str) -> str | None:
        """Why a self-edit teaches nothing; None if it can be trained on."""
        ...

    def train_rows(self, problem: Problem, text: str) -> tuple[TrainRow, ...]:
        """Turns a self-edit's text into training rows; "" gives the rows of the input alone."""
        ...

    def train_settings(self, problem: Problem, text: str, default: LoraSettings) -> LoraSettings:
        """How a self-edit is trained on, which it may say itself; mostly as `[finetune]` says.

        The rank may be lower than the default's, and not higher.
        """
        ...

    def answer_prompts(
        self, problem: Problem, question: Question, in_context: bool = False
    ) -> tuple[PromptText, ...]:
        """Asks a question, once or in several ways; the passage is in view only if `in_context`."""
        ...

    def grade(self, question: Question, texts: Sequence[str]) -> Grading:
        """Grades the answers to a question's prompts, as one."""
        ...

    def render(self, problem: Problem) -> str:
        """The problem for a person to read, without its questions."""
        ...
