"""Reads a published result file, of any form, as one run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from seal_core.config import RowsSection
from seal_core.errors import InputError
from seal_core.fingerprint import make_id
from seal_core.kinds.sections import BestOfKSection
from seal_core.published.articles import ArticleRows, Source, read_article
from seal_core.published.forms import ContinualForm, PretrainingForm, ResultsForm, read_form
from seal_core.published.pretraining import pretraining_answers, pretraining_policies
from seal_core.rewards.selection import select
from seal_core.types import (
    Adapter,
    Answer,
    ContinualAccuracy,
    Policy,
    Problem,
    Score,
    Selection,
    SelfEdit,
    Split,
)

Kind = Literal["train", "heldout", "pretraining", "continual"]


@dataclass(frozen=True)
class PublishedRun:
    """What a file holds.

    Attributes:
        kind: `train` for results with several self-edits per article, of which best-of-K keeps
            one; `heldout` for one each; `pretraining` for one training on all passages;
            `continual` for a matrix.
        config: What the run's name stands for: digest and settings of the file.
        policies: Those that are known by name; with the pretrained one after its base.
        baseline: Answers without an adapter, and before pretraining.
    """

    kind: Kind
    config: dict[str, Any]
    policies: list[Policy]
    problems: list[Problem] = field(default_factory=list)
    self_edits: list[SelfEdit] = field(default_factory=list)
    adapters: list[Adapter] = field(default_factory=list)
    baseline: list[Answer] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    scores: list[Score] = field(default_factory=list)
    selections: list[Selection] = field(default_factory=list)
    continual: list[ContinualAccuracy] = field(default_factory=list)


def read_published(path: Path) -> PublishedRun:
    """The run that a file tells of.

    Raises:
        InputError: the file is no such file, or contradicts itself; names file and place.
    """
    form, sha256 = read_form(path)
    try:
        if isinstance(form, ContinualForm):
            return _continual_run(form, sha256)
        if isinstance(form, PretrainingForm):
            return _pretraining_run(form, sha256)
        return _results_run(form, sha256)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _results_run(form: ResultsForm, sha256: str) -> PublishedRun:
    name = form.exp_name or form.model
    if not name:
        raise InputError("exp_name is missing: it names the policy that wrote the self-edits")
    _check_counts(form)
    split: Split = "train" if form.k_completions > 1 else "heldout"
    rows = RowsSection(split_lines=form.split_newlines)
    policy = _policy(name)
    source = Source(split, policy.policy_id, form.eval_times, form.lora_params, rows)
    parts = [read_article(source, a, f"articles[{i}]") for i, a in enumerate(form.articles)]
    _refuse_repeated(parts)
    scores = [score for part in parts for score in part.scores]
    return PublishedRun(
        kind=split,
        config={
            "import": {**_about(split, name, form.dataset, sha256), "timestamp": form.timestamp},
            "rows": rows.model_dump(mode="json"),
            "finetune": {**form.lora_params.model_dump(mode="json"), "repeats": form.eval_times},
        },
        policies=[policy],
        problems=[part.problem for part in parts],
        self_edits=[edit for part in parts for edit in part.self_edits],
        adapters=[adapter for part in parts for adapter in part.adapters],
        baseline=[answer for part in parts for answer in part.baseline],
        answers=[answer for part in parts for answer in part.answers],
        scores=scores,
        selections=select(scores, BestOfKSection()) if split == "train" else [],
    )


def _about(kind: Kind, policy: str, dataset: str, sha256: str) -> dict[str, Any]:
    return {"kind": kind, "policy": policy, "dataset": dataset, "sha256": sha256}


def _policy(name: str) -> Policy:
    """A policy of which only the name is known."""
    return Policy(
        policy_id=make_id("policy", "published", name),
        parent=None,
        base_model=name,
        model_digest=None,
        uri=None,
        sha256=None,
        n_examples=None,
        n_steps=None,
        final_loss=None,
    )


def _check_counts(form: ResultsForm) -> None:
    if form.n_articles != len(form.articles):
        raise InputError(
            f"n_articles is {form.n_articles}, but there are {len(form.articles)} articles: "
            "the file was cut or edited"
        )
    for i, article in enumerate(form.articles):
        if len(article.completions) > form.k_completions:
            raise InputError(
                f"articles[{i}] has {len(article.completions)} completions, but k_completions "
                f"is {form.k_completions}"
            )


def _refuse_repeated(parts: Sequence[ArticleRows]) -> None:
    seen: dict[str, int] = {}
    for i, part in enumerate(parts):
        first = seen.setdefault(part.problem.problem_id, i)
        if first != i:
            raise InputError(f"articles[{i}] is the same problem as articles[{first}]")


def _pretraining_run(form: PretrainingForm, sha256: str) -> PublishedRun:
    base, trained = pretraining_policies(form, sha256)
    return PublishedRun(
        kind="pretraining",
        config={
            "import": {
                **_about("pretraining", base.base_model, form.dataset, sha256),
                "timestamp": form.timestamp,
            },
            "rows": RowsSection(split_lines=form.split_newlines).model_dump(mode="json"),
            "finetune": form.lora_params.model_dump(mode="json"),
        },
        policies=[base, trained],
        baseline=pretraining_answers(form, base, "baseline"),
        answers=pretraining_answers(form, trained, "adapter"),
    )


def _continual_run(form: ContinualForm, sha256: str) -> PublishedRun:
    policy = _policy(form.base_model)
    return PublishedRun(
        kind="continual",
        config={"import": _about("continual", form.base_model, form.dataset, sha256)},
        policies=[policy],
        continual=list(_cells(form, policy.policy_id)),
    )


def _cells(form: ContinualForm, policy_id: str) -> Iterator[ContinualAccuracy]:
    """The measured cells: all passages before the first step, then those learnt so far.

    The published code fills the cells that it does not measure with 0; they are no accuracy.
    """
    n = form.n_datapoints
    for name in ("mean_over_sequences", "std_over_sequences"):
        matrix = getattr(form, name)
        if len(matrix) != n + 1 or any(len(row) != n for row in matrix):
            raise InputError(f"{name} is not of {n + 1} rows with {n} values, as n_datapoints says")
    for step in range(n + 1):
        for passage in range(n):
            mean = form.mean_over_sequences[step][passage]
            if 0 < step <= passage:
                if mean != 0.0:
                    raise InputError(
                        f"mean_over_sequences[{step}][{passage}] is {mean}, but passage {passage} "
                        f"is not learnt after {step} steps: such cells are 0 in the published form"
                    )
                continue
            sd = form.std_over_sequences[step][passage]
            yield ContinualAccuracy(policy_id, step, passage, mean, sd, form.n_sequences)
