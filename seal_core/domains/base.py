"""The Domain protocol: everything the loop needs to know about one kind of problem.

The stages talk to a domain only through this protocol; they know no prompt text, no row format
and no grader. A domain knows nothing about engines: it returns text to send, and grades text
that came back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from seal_core.rewards.graders import Grades
from seal_core.types import LeftOut, Problem, Question, TrainRow


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

    def train_rows(self, problem: Problem, text: str) -> tuple[TrainRow, ...]:
        """Turns a self-edit's text into training rows; "" gives the rows of the input alone."""
        ...

    def answer_prompt(
        self, problem: Problem, question: Question, in_context: bool = False
    ) -> PromptText:
        """Asks a question, with the passage in view only if `in_context`."""
        ...

    def grade(self, question: Question, text: str) -> Grades:
        """All built-in gradings of an answer."""
        ...

    def is_correct(self, grades: Grades) -> bool:
        """The verdict of the configured grader."""
        ...
