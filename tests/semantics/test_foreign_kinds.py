"""Kinds of another package in a run, with scripted engines.

1. What is stored says whose prompt and whose verdict it was.
2. What a selection, an outer loop or a reward may not say is refused at run time too, whatever it
   said when it was tried; the run names the kind and what is wrong.
3. A kind that fails in a stage is named.
4. A choice that weighs alike is the same work, in whatever order and scale.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from seal_core.errors import StageError
from seal_core.rewards.reward import Judgement
from tests.foreign import Even, Flat, Install, KeepAll, Sums, install
from tests.semantics.conftest import Runner
from tests.semantics.runs import ask
from tests.semantics.scripted import Scripted

__all__ = ["install"]
MODULE = "tests.semantics.test_foreign_kinds"


def in_a_run(rows: Any) -> bool:
    """Whether they are not those that a kind is tried with."""
    return rows[0].self_edit_id != "edit-0"


class KeepBlank(KeepAll):
    def select(self, scores: Any) -> Any:
        blank = {own.self_edit_id for own in scores if own.unusable and in_a_run(scores)}
        found = super().select(scores)
        return [replace(own, kept=own.kept or own.self_edit_id in blank) for own in found]


class Greedy(Even):
    """Learns every self-edit of a run."""

    def weights(self, edits: Any, scores: Any, selections: Any) -> Any:
        if not in_a_run(edits):
            return super().weights(edits, scores, selections)
        return {edit.self_edit_id: 1.0 for edit in edits}


class Endless(Flat):
    def judge(self, answers: Any, edit: Any) -> Judgement:
        found = super().judge(answers, edit)
        return replace(found, reward=float("inf")) if edit and in_a_run([edit]) else found


class Brittle(Sums):
    def check_edit(self, problem: Any, text: str) -> str | None:
        raise KeyError("no such shelf")


class Other(Even):
    """The same choice, in another order and scale."""

    def weights(self, edits: Any, scores: Any, selections: Any) -> Any:
        found = super().weights(edits, scores, selections)
        return {item: 7.0 for item in sorted(found)}


def test_whose_prompt_and_verdict_it_was(run: Runner, store: Path, install: Install) -> None:
    """1"""
    install("domain.sums", "Sums")
    run(domain__kind="sums")
    prompts = "SELECT DISTINCT prompt_id FROM self_edits ORDER BY 1"
    assert ask(store, prompts) == [("none",), ("sums@7",)]
    assert ask(store, "SELECT DISTINCT grader FROM answers") == [("sums",)]
    install("domain.sums", "Sums", version="3.0")
    fresh = run(name="b", domain__kind="sums")  # Another version computes anew.
    assert fresh.generated and fresh.trained


@pytest.mark.parametrize(
    ("point", "kind", "words"),
    [
        ("selection", "KeepBlank", r"filter .*selection\.kind = 'it' keeps edit-.*: no fact"),
        ("outer_loop", "Greedy", r"outer_loop\.kind = 'it' weighs edit-.*nothing: no fact"),
        ("reward", "Endless", r"score .*'flat' gives edit-\w+ of problem-\w+ inf, which is no"),
        ("domain", "Brittle", r"sample .*'it' of extra==2\.0 fails in 'check_edit' \(KeyError: "),
    ],
)
def test_what_a_kind_says_in_a_run_is_checked(
    run: Runner, store: Path, install: Install, point: str, kind: str, words: str
) -> None:
    """2, 3"""
    install("domain.sums", "Sums")
    install(f"{point}.it", f"{MODULE}:{kind}")
    with pytest.raises(StageError, match=words):
        run(**{"domain__kind": "sums", f"{point}__kind": "it"})
    assert ask(store, "SELECT count(*) FROM policies WHERE parent IS NOT NULL") == [(0,)]


def test_an_equal_choice_trains_nothing_again(run: Runner, install: Install) -> None:
    """4"""
    install("outer_loop.even", "Even")
    install("outer_loop.other", f"{MODULE}:Other")
    assert run(outer_loop__kind="even").updates == 1
    assert run(name="b", fork="a", outer_loop__kind="other").updates == 0
    assert run(name="c", fork="a").updates == 0  # As by ReST-EM, which weighs them by 1.


def test_a_lost_self_edit_is_not_learnt(run: Runner, install: Install) -> None:
    """2"""

    class Losing(Scripted):
        def generate(self, requests: Any, progress: object = None) -> Any:
            found = super().generate(requests, progress)
            lost = [own.text is not None and "interest" in own.text for own in found]
            return [
                replace(own, text=None, error="too long") if is_lost else own
                for own, is_lost in zip(found, lost, strict=True)
            ]

    install("outer_loop.it", f"{MODULE}:Greedy")
    with pytest.raises(StageError, match=r"weighs edit-\w+, which teaches nothing: too long"):
        run(Losing(), outer_loop__kind="it", execution__max_error_share=1.0)
