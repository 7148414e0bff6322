"""The algorithm is stated once: counted, planned and run it is the same, with scripted engines.

1. For each config, the count says what the plan says and what a finished run has recorded: stages,
   rounds, shards and their order.
2. So does the count of a policy's evaluation.
3. Handles of one interpreter are no handles of another.
4. A stage has one declaration: two of one name are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import pytest
from prefect import flow
from rich.console import Console

from flows.evaluate import measure
from flows.progress import PlainProgress
from flows.seal import BASELINE, heldout_evaluation, restem
from storage.runs.policy_lookup import find_policy
from storage.store import Store
from tasks.opening.preflight import Measured, preflight
from tasks.running.count import Count
from tasks.running.interpreter import declared
from tasks.running.plan import Plan
from tests.semantics.conftest import Runner
from tests.semantics.runs import N_HELDOUT, N_TRAIN, ask
from tests.semantics.scripted import Scripted

SETTINGS: dict[str, dict[str, Any]] = {
    "no round": {"run__rounds": 0},
    "no controls": {"run__rounds": 0, "heldout__controls": "false"},
    "one round": {"run__rounds": 1, "heldout__repeats": 2},
    "last round only": {"run__rounds": 2, "heldout__every_round": "false"},
    "crossed": {"run__rounds": 2, "heldout__crossed": "true", "heldout__controls": "false"},
    "no round to cross": {"run__rounds": 0, "heldout__crossed": "true"},
    "every round": {"run__rounds": 2, "finetune__repeats": 2, "execution__shard_size": 4},
}


class Named(Protocol):
    @property
    def stage(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def round_index(self) -> int: ...
    @property
    def shards(self) -> int: ...


def order(stages: Sequence[Named]) -> list[tuple[Any, ...]]:
    return [(stage.stage, stage.label, stage.round_index, stage.shards) for stage in stages]


def recorded(store: Path, run: str) -> list[tuple[Any, ...]]:
    """What was executed, in the order in which it was begun."""
    return ask(
        store,
        f"""SELECT stage, label, round, count(DISTINCT shard) FROM stages WHERE run = '{run}'
        GROUP BY ALL ORDER BY min(started_at), min(ended_at)""",
    )


LONG = ("no controls", "last round only", "no round to cross")
EVERY = [
    pytest.param(own, id=name, marks=[pytest.mark.long] if name in LONG else [])
    for name, own in SETTINGS.items()
]


@pytest.mark.parametrize("settings", EVERY)
def test_count_plan_and_run_agree(run: Runner, store: Path, settings: dict[str, Any]) -> None:
    """1"""
    config = run.config(settings)
    size = config.execution.shard_size
    count = Count({"train": -(-N_TRAIN // size), "heldout": -(-N_HELDOUT // size)})
    restem(count, config)
    assert order(run.plan(**settings).stages) == order(count.stages)
    run(**settings)
    assert recorded(store, "a") == order(count.stages)
    assert order(run.plan(**settings).stages) == order(count.stages)


def test_an_evaluation_is_what_is_counted(run: Runner, store: Path) -> None:
    """2"""
    run()
    _, index, ref = find_policy(Store.open(str(store)), "a", None)
    config = run.config({"heldout__edits_per_problem": 2, "evaluate__max_tokens": 9})
    checked = replace(preflight(config, "e"), evaluates=Measured("the latest", index + 1))
    progress = PlainProgress(Console(quiet=True))
    flow(lambda: measure(checked, progress, ref, index, Scripted().open), name="test")()
    count = Count({"train": N_TRAIN // 2, "heldout": N_HELDOUT // 2})
    heldout_evaluation(count, config, count.base_policy(), index + 1)
    assert recorded(store, "e") == order(count.stages)


def test_handles_are_not_exchanged(run: Runner, store: Path) -> None:
    """3"""
    config = run.config({})
    checked = preflight(config, "a")
    opened = Store.open(str(store))
    plan = Plan(opened, checked.digested(opened), 2, [])
    count = Count({"train": 3, "heldout": 1})
    with pytest.raises(TypeError, match="'heldout' is of other stages"):
        plan.evaluate(count.problems("heldout"), plan.base_policy(), BASELINE)


def test_a_stage_is_declared_once() -> None:
    """4"""
    stages = declared()
    assert list(stages) == [stage.name for stage in stages.values()]
    assert len({stage.table for stage in stages.values()}) == len(stages) == 6
    with pytest.raises(ValueError, match="there is a stage 'score' already"):
        replace(stages["score"], version=2)
