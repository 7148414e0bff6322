"""The knowledge domain: passages whose facts a model should answer from memory afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from seal_core.config import (
    EMBEDDED,
    Config,
    DataSection,
    EvaluateSection,
    RowsSection,
    SampleSection,
)
from seal_core.domains.base import Grading, ProblemSet, PromptText
from seal_core.domains.hub import read_dataset
from seal_core.domains.problem_set import build_problem_set
from seal_core.domains.prompts import Prompt, get_prompt
from seal_core.domains.records import Parsed
from seal_core.domains.rows import build_rows
from seal_core.domains.squad import read_squad
from seal_core.domains.world import DEFAULT_HELDOUT, DEFAULT_TRAIN, make_world
from seal_core.engines import LoraSettings
from seal_core.rewards.graders import Grader, get_grader, grade_all
from seal_core.types import Problem, Question, TrainRow

DOMAIN = "knowledge"


@dataclass(frozen=True, slots=True)
class KnowledgeDomain:
    """Implements `Domain`; make it with `from_config`, which checks all names first."""

    data: DataSection
    rows: RowsSection
    seed: int
    edit: Prompt
    answer: Prompt
    context_answer: Prompt
    grader: Grader
    name: str = DOMAIN

    @classmethod
    def from_config(cls, config: Config) -> KnowledgeDomain:
        """The domain that a run's configuration describes.

        Raises:
            InputError: a prompt or grader is not known, or a prompt is for something else.
        """
        return cls.from_sections(
            config.data, config.sample, config.rows, config.evaluate, config.run.seed
        )

    @classmethod
    def from_sections(
        cls,
        data: DataSection,
        sample: SampleSection,
        rows: RowsSection,
        evaluate: EvaluateSection,
        seed: int,
    ) -> KnowledgeDomain:
        """As `from_config`, from the sections alone."""
        return cls(
            data=data,
            rows=rows,
            seed=seed,
            edit=get_prompt(sample.prompt, "edit"),
            answer=get_prompt(evaluate.prompt, "answer"),
            context_answer=get_prompt(evaluate.context_prompt, "answer_in_context"),
            grader=get_grader(evaluate.grader),
        )

    def load(self) -> ProblemSet:
        """See `load_problem_set`."""
        return load_problem_set(self.data, self.seed)

    def edit_prompt(self, problem: Problem) -> PromptText:
        """Asks the policy for a self-edit about the passage."""
        return self.edit.render(problem.title, problem.context, chat=self._chat)

    def check_edit(self, problem: Problem, text: str) -> str | None:
        """Any text teaches something, and none teaches nothing."""
        return None if text.strip() else "the policy wrote nothing"

    def train_rows(self, problem: Problem, text: str) -> tuple[TrainRow, ...]:
        """See `build_rows`."""
        return build_rows(problem, text, self.rows)

    def train_settings(self, problem: Problem, text: str, default: LoraSettings) -> LoraSettings:
        """All self-edits are trained alike."""
        return default

    def answer_prompts(
        self, problem: Problem, question: Question, in_context: bool = False
    ) -> tuple[PromptText, ...]:
        """Asks a question once, with the passage in view only if `in_context`."""
        prompt = self.context_answer if in_context else self.answer
        return (prompt.render(problem.title, problem.context, question.prompt, chat=self._chat),)

    def grade(self, question: Question, texts: Sequence[str]) -> Grading:
        """All built-in gradings, the best over the golds, and the verdict of `evaluate.grader`."""
        (text,) = texts
        grades = grade_all(text, question.gold)
        return Grading(text, self.grader.verdict(grades), asdict(grades))

    def render(self, problem: Problem) -> str:
        """The passage."""
        return problem.context

    @property
    def _chat(self) -> bool:
        return self.rows.variant == "instruct"


def load_problem_set(data: DataSection, seed: int) -> ProblemSet:
    """Reads the problems of a run, from any source.

    Args:
        seed: The run's seed; only the embedded world depends on it.

    Raises:
        InputError: the source cannot be read, has a bad row, or cannot be split.
    """
    if data.source == EMBEDDED:
        train = make_world("train", data.limit or DEFAULT_TRAIN, seed)
        heldout = make_world("heldout", data.heldout_limit or DEFAULT_HELDOUT, seed)
        return build_problem_set(train, heldout, data, DOMAIN)
    path = data.path or ""
    parsed = _read(data, path, data.dataset_split)
    if not _has_heldout_source(data):
        return build_problem_set(parsed.problems, None, data, DOMAIN, parsed.left_out)
    heldout_path = data.heldout_path or path
    other = _read(data, heldout_path, data.heldout_split or data.dataset_split)
    left_out = parsed.left_out + other.left_out
    return build_problem_set(parsed.problems, other.problems, data, DOMAIN, left_out)


def _has_heldout_source(data: DataSection) -> bool:
    """A data set's other split is a held-out source too; a single file has no splits."""
    return bool(data.heldout_path or (data.source == "dataset" and data.heldout_split))


def _read(data: DataSection, path: str, split: str) -> Parsed:
    if data.source == "squad":
        return read_squad(path)
    return read_dataset(path, data.subset, split)
