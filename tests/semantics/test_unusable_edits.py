"""A self-edit that teaches nothing is the policy's failure and counts as one.

1. A blank self-edit is answered by the untouched policy: it is scored like the baseline, no error
   hides it, and it is never kept.
2. With `finetune.unusable = "passage"` the passage alone is trained.
3. What `max_tokens` cut is taught without an end, or left out.
4. The outer loop says what the update starts from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from seal_core.engines import GenerateRequest, Generation, LoraSettings, TrainedAdapter, TrainRow
from seal_core.errors import StageError
from tests.semantics.runs import N_TRAIN, K, ask
from tests.semantics.scripted import Scripted


class Failing(Scripted):
    """Writes nothing where the scripted policy writes nothing of use; every text is cut."""

    def __init__(self) -> None:
        super().__init__()
        self.examples: list[TrainRow] = []
        self.parents: list[str | None] = []

    def generate(
        self, requests: Sequence[GenerateRequest], progress: object = None
    ) -> list[Generation]:
        return [self._cut(own) for own in super().generate(requests, progress)]

    @staticmethod
    def _cut(own: Generation) -> Generation:
        text = " \n" if (own.text or "").endswith("of interest.") else own.text
        is_edit = (own.text or "").startswith("FACT")
        return replace(own, text=text, finish_reason="length" if is_edit else "stop")

    def update_policy(
        self,
        examples: Sequence[TrainRow],
        settings: LoraSettings,
        seed: int,
        out: Path,
        parent_adapter: str | None = None,
    ) -> TrainedAdapter:
        self.examples += examples
        self.parents.append(parent_adapter)
        return super().update_policy(examples, settings, seed, out, parent_adapter)


def test_a_blank_self_edit_counts_as_the_untouched_policy(run: Any, store: Path) -> None:
    """1, 3"""
    engine = run(Failing())
    blank = "unusable IS NOT NULL"
    ((n_blank,),) = ask(store, f"SELECT count(*) FROM scores WHERE split = 'train' AND {blank}")
    assert 0 < n_blank < N_TRAIN * K
    edits = ask(store, f"SELECT DISTINCT unusable, error FROM self_edits WHERE {blank}")
    assert edits == [("the policy wrote nothing", None)]
    adapters = (
        "adapters SEMI JOIN (FROM self_edits WHERE unusable IS NOT NULL) USING (self_edit_id)"
    )
    assert ask(store, f"SELECT DISTINCT uri, n_steps, error FROM {adapters}") == [(None, 0, None)]
    found = f"SELECT DISTINCT reward, baseline_reward, gain, n_errors FROM scores WHERE {blank}"
    assert ask(store, found) == [(0.0, 0.0, 0.0, 0)]
    # All count: nothing was left out of the mean.
    ((mean, n_unusable, n_cut),) = ask(
        store, "SELECT mean_reward, n_unusable, n_cut FROM rewards_by_round"
    )
    assert (n_unusable, n_cut) == (n_blank, N_TRAIN * K - n_blank)
    assert mean == pytest.approx(n_cut / (N_TRAIN * K))
    kept = ask(
        store, f"SELECT * FROM selections JOIN scores USING (self_edit_id) WHERE kept AND {blank}"
    )
    assert kept == []
    ((reason,),) = ask(
        store,
        f"SELECT DISTINCT reason FROM selections JOIN scores USING (self_edit_id) WHERE {blank}",
    )
    assert reason == "It teaches nothing: the policy wrote nothing."
    assert engine.examples and all(row.is_open and row.text for row in engine.examples)


def test_the_passage_alone_may_take_its_place(run: Any, store: Path) -> None:
    """2"""
    run(Failing(), finetune__unusable="passage")
    adapters = (
        "adapters SEMI JOIN (FROM self_edits WHERE unusable IS NOT NULL) USING (self_edit_id)"
    )
    ((n_rows, n_without),) = ask(
        store, f"SELECT max(n_rows), count(*) FILTER (uri IS NULL) FROM {adapters}"
    )
    assert (n_rows, n_without) == (1, 0)


def test_what_was_cut_may_be_left_out(run: Any) -> None:
    """3"""
    words = r"no self-edit to learn from: \d+ of 18 were cut .*sample\.max_tokens.*outer_loop\.cut"
    with pytest.raises(StageError, match=words):
        run(Failing(), outer_loop__cut="leave_out")


class Mute(Scripted):
    """Writes nothing at all about the first problem."""

    def _generate(self, request: GenerateRequest) -> Generation:
        own = super()._generate(request)
        about = (own.text or "").startswith(("P0 is", "FACT: P0 "))
        return replace(own, text="") if about else own


def test_nothing_unusable_is_the_best_of_its_problem(run: Any, store: Path) -> None:
    """1"""
    run(Mute())
    by_problem = "SELECT problem_id, max(reward) AS best FROM scores WHERE split = 'train'"
    ((n, mean),) = ask(
        store,
        f"SELECT count(*), avg(best) FROM ({by_problem} AND unusable IS NULL GROUP BY ALL)",
    )
    assert n == N_TRAIN - 1
    assert ask(store, "SELECT mean_best_reward FROM rewards_by_round") == [(pytest.approx(mean),)]


@pytest.mark.parametrize("start", ["policy", "base"])
def test_where_an_update_starts(run: Any, start: str) -> None:
    """4"""
    engine = run(Failing(), run__rounds=2, outer_loop__start=start)
    first, second = engine.parents
    assert first is None and (second is None) == (start == "base")
