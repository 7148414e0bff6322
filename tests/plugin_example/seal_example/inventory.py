"""A domain: lists of what lies on made-up shelves, and questions about them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from seal_core.domains.base import Grading, ProblemSet, PromptText, new_problem
from seal_core.engines import LoraSettings
from seal_core.section import Section
from seal_core.types import Problem, Question, TrainRow

_THINGS = ("rope", "lamp", "salt", "wool", "tar", "nail", "bell", "oar")


class Inventory:
    """Implements `seal_core.domains.base.Domain`."""

    name = "inventory"

    class Options(Section):
        """The settings of `[domain]` with this kind."""

        problems: int = 4
        heldout: int = 2
        seed: int = 0

    def __init__(self, options: Options) -> None:
        self._options = options

    def load(self) -> ProblemSet:
        made = [self._problem(i) for i in range(self._options.problems + self._options.heldout)]
        train, heldout = made[: self._options.problems], made[self._options.problems :]
        return ProblemSet(tuple(train), tuple(replace(own, split="heldout") for own in heldout))

    def _problem(self, number: int) -> Problem:
        things = random.Random(f"{self._options.seed}/{number}").sample(_THINGS, 3)
        text = ", ".join(f"{i + 1} {thing}" for i, thing in enumerate(things))
        asked = [(f"How many of {thing}?", [str(i + 1)]) for i, thing in enumerate(things)]
        return new_problem(self.name, "train", f"Shelf {number}", text, asked)

    def edit_prompt(self, problem: Problem) -> PromptText:
        text = f"{problem.title} holds {problem.context}. Say what it holds:\n"
        return PromptText("inventory@1", text, (), chat=False)

    def check_edit(self, problem: Problem, text: str) -> str | None:
        return None if any(char.isalnum() for char in text) else "it names nothing"

    def train_rows(self, problem: Problem, text: str) -> tuple[TrainRow, ...]:
        lines = [*text.splitlines(), problem.context]
        return tuple(TrainRow(f"{problem.title}: {line}") for line in lines if line.strip())

    def train_settings(self, problem: Problem, text: str, default: LoraSettings) -> LoraSettings:
        """A short self-edit is read more often."""
        return replace(default, epochs=2 * default.epochs if len(text) < 20 else default.epochs)

    def answer_prompts(
        self, problem: Problem, question: Question, in_context: bool = False
    ) -> tuple[PromptText, ...]:
        seen = f"{problem.title}: {problem.context}\n" if in_context else f"{problem.title}\n"
        asked = (question.prompt, f"{question.prompt} Number:")
        return tuple(PromptText("inventory-ask@1", seen + own, ("\n",), False) for own in asked)

    def grade(self, question: Question, texts: Sequence[str]) -> Grading:
        """The answer that was given most often, the earlier one in a tie."""
        said, votes = Counter(text.strip() for text in texts).most_common(1)[0]
        right = said in question.gold
        return Grading(said, right, {"exact": float(right), "agreement": votes / len(texts)})

    def render(self, problem: Problem) -> str:
        return f"[{problem.context}]"
