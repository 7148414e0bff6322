"""The real published files: scores equal their statistics, kept edits are the published ones."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from seal_core.domains.problem_set import make_problem
from seal_core.domains.rows import rows_digest
from seal_core.domains.squad import read_squad
from seal_core.published.records import read_published
from seal_core.types import TrainRow
from tests.published_files import PUBLISHED, RESULTS

pytestmark = pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published files are not here")


@pytest.mark.parametrize(
    "path", sorted(RESULTS.rglob("*.json")), ids=lambda path: str(path.relative_to(RESULTS))
)
def test_every_file_is_read(path: Path) -> None:
    """Scores equal the means that the file tells; answers are as many as it has."""
    content, run = json.loads(path.read_text("utf-8")), read_published(path)
    if run.kind in ("train", "heldout"):
        completions = [c for article in content["articles"] for c in article["completions"]]
        assert len(run.self_edits) == len(run.scores) == len(completions)
        for score, completion in zip(run.scores, completions, strict=True):
            assert score.reward == pytest.approx(completion["stats"]["adapter_mean"])
        asked = sum(len(c["questions"]) for c in completions)
        assert len(run.answers) == len(run.baseline) == asked
        n_problems = content["n_articles"]
        assert sum(s.kept for s in run.selections) == (n_problems if run.kind == "train" else 0)
    elif run.kind == "pretraining":
        assert len(run.answers) == len(run.baseline) == content["eval_questions"]
    else:
        assert {cell.n_sequences for cell in run.continual} == {content["n_sequences"]}


def _completions(name: str) -> list[dict[str, Any]]:
    content = json.loads((PUBLISHED / f"{name}.json").read_text("utf-8"))
    return [c for article in content["articles"] for c in article["completions"]]


@pytest.mark.parametrize("name", ["train_round1", "eval_base", "eval_iter1"])
def test_scores_equal_the_statistics_of_the_file(name: str) -> None:
    run, completions = read_published(PUBLISHED / f"{name}.json"), _completions(name)
    assert [e.text for e in run.self_edits] == [c["text"] for c in completions]
    assert {e.prompt_id for e in run.self_edits} == {"implications@1"}
    for score, completion in zip(run.scores, completions, strict=True):
        stats = completion["stats"]
        assert score.reward == pytest.approx(stats["adapter_mean"], abs=1e-12)
        assert score.baseline_reward == pytest.approx(stats["baseline_mean"], abs=1e-12)
        # The published gain is rounded once more, so it may be off by one in the fourth digit.
        assert score.gain == pytest.approx(stats["gain_mean"], abs=1.01e-4)
        if run.kind == "train":
            sd = (score.uncertainty or 0.0) * math.sqrt(3)
            assert sd == pytest.approx(stats["adapter_std"], abs=1e-9)
    asked = [q for c in completions for q in c["questions"]]
    assert [(a.text, a.correct) for a in run.answers] == [
        (q["adapter_answer"], q["adapter_correct"]) for q in asked
    ]
    assert [(a.text, a.correct) for a in run.baseline] == [
        (q["baseline_answer"], q["baseline_correct"]) for q in asked
    ]


def test_the_published_choice_is_recorded() -> None:
    content = json.loads((PUBLISHED / "train_round1.json").read_text("utf-8"))
    prompt = {a["context"]: a["prompt"] for a in content["articles"]}
    lines = (PUBLISHED / "selected_round1.jsonl").read_text("utf-8").splitlines()
    run = read_published(PUBLISHED / "train_round1.json")
    kept = {s.self_edit_id for s in run.selections if s.kept}
    context = {p.problem_id: p.context for p in run.problems}
    assert [
        {"prompt": prompt[context[e.problem_id]], "completion": e.text}
        for e in run.self_edits
        if e.self_edit_id in kept
    ] == [json.loads(line) for line in lines]
    assert len(kept) == len(lines) == 50


def test_problems_are_those_of_a_run_of_ours() -> None:
    ours = read_squad(str(PUBLISHED.parent / "squad/train50.json")).problems
    run = read_published(PUBLISHED / "train_round1.json")
    assert run.problems == [make_problem(raw, "knowledge", "train") for raw in ours]


def _published_rows(title: str, context: str, text: str) -> list[str]:
    """The published rule, said again for edits without questions or a line "Implications:"."""
    lines = [line.strip() for line in text.replace("---", "\n").splitlines() if line.strip()]
    if len(lines) > 1 and lines[1].startswith("1."):
        lines = lines[1:]
    return [f"{title}\n{line}" for line in [*lines[:30], context.strip()]]


@pytest.mark.parametrize(("name", "uncertain"), [("train_round1", 4), ("eval_base", 5)])
def test_digests_are_of_the_published_rows(name: str, uncertain: int) -> None:
    run = read_published(PUBLISHED / f"{name}.json")
    problems = {p.problem_id: p for p in run.problems}
    digests = {a.self_edit_id: a.rows_sha256 for a in run.adapters}
    for edit in run.self_edits:
        problem, found = problems[edit.problem_id], digests[edit.self_edit_id]
        rows = [TrainRow(t) for t in _published_rows(problem.title, problem.context, edit.text)]
        assert found == (None if "\nImplications:" in edit.text else rows_digest(rows))
    assert list(digests.values()).count(None) == uncertain


def test_the_real_matrix() -> None:
    content = json.loads((PUBLISHED / "continual.json").read_text("utf-8"))
    run = read_published(PUBLISHED / "continual.json")
    assert len(run.continual) == 8 + sum(range(1, 9))
    for cell in run.continual:
        assert cell.accuracy == content["mean_over_sequences"][cell.step][cell.passage_index] > 0
        assert cell.accuracy_sd == content["std_over_sequences"][cell.step][cell.passage_index] > 0
        assert cell.n_sequences == 64
