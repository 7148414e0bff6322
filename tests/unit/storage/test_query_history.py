"""Named queries over several runs, rounds, prompts, repeats and errors, against brute force."""

from __future__ import annotations

import random
import statistics
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from seal_core.kinds.sections import BestOfKSection
from seal_core.rewards.aggregate import score_self_edits
from seal_core.rewards.selection import select
from seal_core.types import CONTROL_ROUND, Answer, Score, Selection, SelfEdit
from storage.sql.catalog import Catalog
from storage.store import Store
from tests.unit.storage.rows import (
    ANSWER,
    EDIT,
    POLICY,
    PROBLEM,
    QUESTION,
    STAGE,
    many,
    put,
)

RUNS, ROUNDS = ("r1", "r2"), (0, 1)
PROBLEMS, SAMPLES, REPEATS, QUESTIONS = 3, 4, 2, 3
PROMPTS = ("a@1", "b@1")


@dataclass
class Part:
    """Rows of one run, round and split; `baseline` is what they are measured against."""

    split: str
    edits: list[SelfEdit] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    baseline: list[Answer] = field(default_factory=list)
    scores: list[Score] = field(default_factory=list)
    selections: list[Selection] = field(default_factory=list)


def _answer(rng: random.Random, split: str, p: int, q: int, **changes: Any) -> Answer:
    lost = rng.random() < 0.1
    return replace(
        ANSWER,
        answer_id=f"a{rng.random()}",
        problem_id=f"{split}{p}",
        question_id=f"{split}{p}q{q}",
        split=split,  # type: ignore[arg-type]
        text=None if lost else f"t{rng.random()}",
        correct=None if lost else rng.random() < 0.5,
        error="dead" if lost else None,
        **changes,
    )


def _baseline(rng: random.Random, split: str, policy: str) -> list[Answer]:
    """Each question is asked twice, the second time stored first."""
    unadapted = {"condition": "no_adaptation", "adapter_id": None, "self_edit_id": None}
    return [
        _answer(rng, split, p, q, repeat=repeat, policy_id=policy, **unadapted)
        for repeat in (1, 0)
        for p in range(PROBLEMS)
        for q in range(QUESTIONS)
    ]


def _part(rng: random.Random, split: str, index: int, baseline: list[Answer]) -> Part:
    part, condition, policy = Part(split, baseline=baseline), f"round_{index}", f"pi{index}"
    for p in range(PROBLEMS):
        for e in range(SAMPLES):
            edit = replace(
                EDIT,
                self_edit_id=f"{split}-{index}-{p}{e}",
                problem_id=f"{split}{p}",
                split=split,  # type: ignore[arg-type]
                condition=condition,
                policy_id=policy,
                sample_index=e,
                prompt_id=PROMPTS[e % 2],
                error="wrote nothing" if rng.random() < 0.1 else None,
            )
            part.edits.append(edit)
            own = {"self_edit_id": edit.self_edit_id, "condition": condition, "policy_id": policy}
            part.answers += [
                _answer(rng, split, p, q, repeat=r, **own)
                for r in range(REPEATS)
                for q in range(QUESTIONS)
                if edit.error is None
            ]
    part.scores = score_self_edits(part.edits, part.answers, baseline)
    part.selections = select(part.scores, BestOfKSection()) if split == "train" else []
    return part


@dataclass
class History:
    """All parts by run, round and split."""

    parts: dict[tuple[str, int, str], Part]

    def of(self, run: str) -> Iterator[tuple[int, Part]]:
        return ((index, part) for (name, index, _), part in self.parts.items() if name == run)


def _fill(store: Store, run: str, seed: int) -> dict[tuple[str, int, str], Part]:
    rng = random.Random(seed)
    heldout = _baseline(rng, "heldout", "pi0")
    put(store, "answers", heldout, CONTROL_ROUND, run)
    names = [f"{split}{p}" for split in ("train", "heldout") for p in range(PROBLEMS)]
    put(store, "problems", many(PROBLEM, [{"problem_id": n} for n in names]), -1, run)
    asked = [{"question_id": f"{n}q{q}", "problem_id": n} for n in names for q in range(QUESTIONS)]
    put(store, "questions", many(QUESTION, asked), -1, run)
    parts = {}
    for index in ROUNDS:
        train = _baseline(rng, "train", f"pi{index}")
        put(store, "answers", train, index, run)
        for split, baseline in (("train", train), ("heldout", heldout)):
            part = parts[run, index, split] = _part(rng, split, index, baseline)
            put(store, "self_edits", part.edits, index, run)
            put(store, "answers", part.answers, index, run)
            put(store, "scores", part.scores, index, run)
            put(store, "selections", part.selections, index, run)
    return parts


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[History, Catalog]]:
    store = Store.open(str(tmp_path_factory.mktemp("history") / "store"))
    history = History(_fill(store, "r1", 1) | _fill(store, "r2", 2))
    with Catalog(store) as catalog:
        yield history, catalog


def before(part: Part) -> dict[str, Answer]:
    """By question, the first graded answer of the baseline, or else the first."""
    found: dict[str, Answer] = {}
    for answer in sorted(part.baseline, key=lambda a: (a.correct is None, a.repeat)):
        found.setdefault(answer.question_id, answer)
    return found


def mean(values: list[Any]) -> float | None:
    known = [float(value) for value in values if value is not None]
    return statistics.mean(known) if known else None


def summary(scores: list[Score]) -> dict[str, float | None]:
    return {
        "n_self_edits": len(scores),
        "n_scored": sum(s.reward is not None for s in scores),
        "mean_baseline": mean([s.baseline_reward for s in scores]),
        "mean_reward": mean([s.reward for s in scores]),
        "mean_gain": mean([s.gain for s in scores]),
        "share_helped": mean([None if s.gain is None else s.gain > 0 for s in scores]),
    }


def check(row: dict[str, Any], figures: dict[str, float | None]) -> None:
    assert {name: row[name] for name in figures} == pytest.approx(figures)


def test_rewards_by_round(world: tuple[History, Catalog]) -> None:
    history, catalog = world
    found = {(r["run"], r["round"]): r for r in catalog.records("SELECT * FROM rewards_by_round")}
    assert found.keys() == {(run, index) for run in RUNS for index in ROUNDS}
    for (run, index), row in found.items():
        part = history.parts[run, index, "train"]
        best = [s for s in part.selections if s.rank_in_problem == 0]
        kept = sum(s.kept for s in part.selections)
        figures = {"n_kept": kept, "mean_best_reward": mean([s.reward for s in best])}
        check(row, summary(part.scores) | figures)


def test_rewards_by_prompt(world: tuple[History, Catalog]) -> None:
    history, catalog = world
    rows = catalog.records("SELECT * FROM rewards_by_prompt")
    found = {(r["run"], r["round"], r["split"], r["prompt_id"]): r for r in rows}
    assert len(found) == len(rows) == len(history.parts) * len(PROMPTS)
    for (run, index, split, prompt), row in found.items():
        part = history.parts[run, index, split]
        edits = {e.self_edit_id: e for e in part.edits if e.prompt_id == prompt}
        scores = [s for s in part.scores if s.self_edit_id in edits]
        lost = {
            "n_without_text": sum(e.error is not None for e in edits.values()),
            "n_answers_lost": sum(s.n_errors for s in scores),
            "n_kept": sum(s.kept for s in part.selections if s.self_edit_id in edits),
        }
        assert row["policy_id"] == f"pi{index}"
        check(row, summary(scores) | lost)


def test_question_before_after(world: tuple[History, Catalog]) -> None:
    history, catalog = world
    expected = {}
    for (run, index, _), part in history.parts.items():
        baseline = before(part)
        for a in part.answers:
            was = baseline[a.question_id]
            key = (run, index, a.self_edit_id, a.repeat, a.question_id)
            expected[key] = (was.text, was.correct, a.text, a.correct, a.error)
    rows = catalog.records("SELECT * FROM question_before_after")
    values = ("text_before", "correct_before", "text_after", "correct_after", "error")
    keys = ("run", "round", "self_edit_id", "repeat", "question_id")
    found = {tuple(r[k] for k in keys): tuple(r[v] for v in values) for r in rows}
    assert len(rows) == len(found) and found == expected


def test_edits_that_hurt(world: tuple[History, Catalog]) -> None:
    history, catalog = world
    expected = {}
    for (run, index, _), part in history.parts.items():
        baseline = before(part)
        for score in part.scores:
            if score.gain is None or score.gain >= 0:
                continue
            pairs = [
                (baseline[a.question_id].correct, a.correct)
                for a in part.answers
                if a.self_edit_id == score.self_edit_id
            ]
            counts = (pairs.count((True, False)), pairs.count((False, True)))
            expected[run, index, score.self_edit_id] = counts
    rows = catalog.records("SELECT * FROM edits_that_hurt")
    found = {(r["run"], r["round"], r["self_edit_id"]): (r["n_lost"], r["n_won"]) for r in rows}
    assert expected and len(rows) == len(found) and found == expected


def test_best_and_worst_edits(world: tuple[History, Catalog]) -> None:
    history, catalog = world
    for view, sign in (("best_edits", -1), ("worst_edits", 1)):
        for run in RUNS:
            kept = {s.self_edit_id: s.kept for _, part in history.of(run) for s in part.selections}
            rows = catalog.records(f"SELECT * FROM {view} WHERE run = $run", run=run)
            found = [(r["round"], r["self_edit_id"], r["kept"]) for r in rows]
            expected = []
            for split in ("train", "heldout"):
                pairs = [(i, s) for i, part in history.of(run) for s in part.scores]
                known = [(i, s) for i, s in pairs if s.gain is not None and s.split == split]
                known.sort(key=lambda own: (sign * own[1].gain, own[0], own[1].self_edit_id))
                assert len(known) > 20
                expected += [(i, s.self_edit_id, kept.get(s.self_edit_id)) for i, s in known[:20]]
            assert found == expected


def test_heldout_by_condition(world: tuple[History, Catalog]) -> None:
    history, catalog = world
    rows = catalog.records("SELECT * FROM heldout_by_condition")
    assert len(rows) == len(RUNS) * (1 + len(ROUNDS))
    for row in rows:
        last = row["condition"].rpartition("_")[2]
        index = int(last) if last.isdigit() else None
        part = history.parts[row["run"], index or 0, "heldout"]
        answers = part.baseline if index is None else part.answers
        by_problem = defaultdict(list)
        for answer in answers:
            by_problem[answer.problem_id].append(answer.correct)
        means = [mean(marks) for marks in by_problem.values()]
        assert row["accuracy"] == pytest.approx(mean(means))
        assert row["n_errors"] == sum(a.error is not None for a in answers)


def test_errors(world: tuple[History, Catalog]) -> None:
    history, catalog = world
    expected = set()
    for (run, index, split), part in history.parts.items():
        at = CONTROL_ROUND if split == "heldout" else index
        expected |= {(run, index, "sample", e.self_edit_id) for e in part.edits if e.error}
        expected |= {(run, index, "evaluate", a.answer_id) for a in part.answers if a.error}
        expected |= {(run, at, "evaluate", a.answer_id) for a in part.baseline if a.error}
    assert set(catalog.fetch("SELECT run, round, stage, unit FROM errors")) == expected


def test_cost_by_stage(tmp_path: Path) -> None:
    store, rng = Store.open(str(tmp_path / "store")), random.Random(3)
    made: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for i in range(40):
        row = replace(
            STAGE,
            stage=rng.choice(["sample", "finetune"]),
            started_at=f"2026-01-01T00:00:{i:02d}.000+00:00",
            seconds=rng.random(),
            n_tokens=rng.randint(0, 9),
            error=rng.choice([None, None, "died"]),
        )
        row = replace(row, n_units=rng.randint(1, 5) if row.error is None else 0)
        run = rng.choice(RUNS)
        made[run, row.stage].append(row)
        put(store, "stages", [row], rng.choice(ROUNDS), run)
    with Catalog(store) as catalog:
        rows = catalog.records("SELECT * FROM cost_by_stage")
    assert len(rows) == len(made)
    for row in rows:
        group = made[row["run"], row["stage"]]
        seconds, units = sum(s.seconds for s in group), sum(s.n_units for s in group)
        figures = {
            "n_executions": len(group),
            "n_failed": sum(s.error is not None for s in group),
            "n_units": units,
            "seconds": seconds,
            "seconds_per_unit": seconds / units,
            "tokens_per_second": sum(s.n_tokens for s in group) / seconds,
        }
        check(row, figures)


def test_policy_lineage(tmp_path: Path) -> None:
    """Two runs with the same ids and other parents, a policy in two rounds, and a circle."""
    store = Store.open(str(tmp_path / "store"))
    parents = {
        "r1": {"base": None, "x": "base", "y": "x", "z": "y"},
        "r2": {"base": None, "x": "base", "y": "base", "u": "v", "v": "u"},
    }
    for run, tree in parents.items():
        for index, (name, parent) in enumerate(tree.items()):
            put(store, "policies", [replace(POLICY, policy_id=name, parent=parent)], index - 1, run)
        put(store, "policies", [replace(POLICY, policy_id="x", parent="base")], 5, run)
    with Catalog(store) as catalog:
        rows = catalog.records("SELECT * FROM policy_lineage")
    found = {(r["run"], r["policy_id"]): r["path"] for r in rows}
    assert len(rows) == len(found) == 9
    for run, tree in parents.items():
        for name in tree:
            path, at = [name], tree[name]
            while at is not None and at not in path:
                path.insert(0, at)
                at = tree[at]
            assert found[run, name] == (path if at is None else None)
