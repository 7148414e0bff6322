"""Kinds of a package that is not installed, and its entry points."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint
from types import SimpleNamespace
from typing import Any

import pytest

from seal_core.config import BestOfKSection
from seal_core.domains.base import Grading, ProblemSet, PromptText, new_problem
from seal_core.kinds import entry_points as plugins
from seal_core.rewards.reward import Judgement
from seal_core.rewards.selection import select
from seal_core.section import Section
from seal_core.types import Problem, TrainRow

MODULE = "tests.foreign"
Install = Callable[..., None]


@dataclass(frozen=True)
class Entry:
    """An entry point of a package that is not installed."""

    name: str
    value: str
    dist: Any

    def load(self) -> Any:
        return EntryPoint(self.name, self.value, plugins.GROUP).load()


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Makes entry points appear, `name: target`, of a package `extra` 2.0 or another one."""
    entries: list[Entry] = []
    monkeypatch.setattr(plugins, "entry_points", lambda group: tuple(entries))

    def add(name: str, target: str = "Flat", package: str = "extra", version: str = "2.0") -> None:
        value = target if ":" in target else f"{MODULE}:{target}"
        entries[:] = [own for own in entries if (own.name, own.dist.name) != (name, package)]
        entries.append(Entry(name, value, SimpleNamespace(name=package, version=version)))

    return add


class Flat:
    """A reward whose right answers earn `worth`."""

    name, evidence = "flat", frozenset()

    class Options(Section):
        worth: float = 1.0

    def __init__(self, options: Options) -> None:
        self.worth = options.worth

    def judge(self, answers: Any, edit: Any) -> Judgement:
        return Judgement(self.worth * float(answers[0].correct), None, {}, 1)


class Sums:
    """A domain of four sums, which grades by itself, and asks each question twice."""

    name = "sums"

    def __init__(self, options: Any = None) -> None: ...

    def load(self) -> ProblemSet:
        made = [self._sum(i) for i in range(4)]
        heldout = tuple(replace(own, split="heldout") for own in made[2:])
        return ProblemSet(tuple(made[:2]), heldout)

    def _sum(self, i: int) -> Problem:
        return new_problem("sums", "train", f"P{i}", f"P{i} is C{i}.", [(f"P{i}?", [f"C{i}"])])

    def edit_prompt(self, problem: Problem) -> PromptText:
        return PromptText("sums@7", f"Say {problem.title}", (), chat=False)

    def check_edit(self, problem: Problem, text: str) -> str | None:
        return None if text.startswith("FACT") else "no fact"

    def train_rows(self, problem: Problem, text: str) -> tuple[TrainRow, ...]:
        return (TrainRow(text or problem.context),)

    def train_settings(self, problem: Problem, text: str, default: Any) -> Any:
        return default

    def answer_prompts(self, problem: Problem, question: Any, in_context: bool = False) -> Any:
        return [PromptText("sums-ask@1", f"Question: {question.prompt}", (), False)] * 2

    def grade(self, question: Any, texts: Any) -> Grading:
        right = texts[0] in question.gold
        return Grading(texts[0], right, {"agreement": float(right)})

    def render(self, problem: Problem) -> str:
        return problem.context


class KeepAll:
    """A selection that keeps whatever has a reward and teaches something."""

    def __init__(self, options: Any = None) -> None: ...

    def select(self, scores: Any) -> Any:
        keeps = [own.reward is not None and own.unusable is None for own in scores]
        verdicts = select(scores, BestOfKSection())
        return [replace(own, kept=kept) for own, kept in zip(verdicts, keeps, strict=True)]


class Even:
    """An outer loop that learns all that was kept, by weights that are alike but not 1."""

    start = "policy"

    def __init__(self, options: Any = None) -> None: ...

    def weights(self, edits: Any, scores: Any, selections: Any) -> Any:
        return {own.self_edit_id: 0.3 for own in reversed(selections) if own.kept}
