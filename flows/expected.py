"""Lists the stages that the `seal` flow will run, with their shards, before it starts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from seal_core.config import Config
from seal_core.types import (
    CONTROL_ROUND,
    IN_CONTEXT,
    INPUT_ONLY,
    INPUT_ONLY_MATCHED,
    round_condition,
)

_INNER = ("sample", "finetune", "evaluate")


@dataclass(frozen=True)
class ExpectedStage:
    """One stage of a run; `label` is as the user sees it, e.g. `finetune heldout round_0`."""

    stage: str
    label: str
    round_index: int
    shards: int


def expected_stages(config: Config, train: int, heldout: int) -> list[ExpectedStage]:
    """Stages of a whole run in their order.

    Args:
        train, heldout: Shards of problems of each split.
    """
    found = [ExpectedStage("evaluate", "evaluate baseline", CONTROL_ROUND, heldout)]
    found += _adapted(f"heldout {round_condition(0)}", 0, heldout)
    for index in range(config.run.rounds):
        found += _restem_round(index, train)
        if config.heldout.every_round or index == config.run.rounds - 1:
            found += _adapted(f"heldout {round_condition(index + 1)}", index + 1, heldout)
    if config.heldout.controls:
        found.append(ExpectedStage("evaluate", f"evaluate {IN_CONTEXT}", CONTROL_ROUND, heldout))
        for condition in (INPUT_ONLY, INPUT_ONLY_MATCHED):
            found += _adapted(f"heldout {condition}", CONTROL_ROUND, heldout)
    return found


def expected_shards(config: Config, train: int, heldout: int) -> Counter[str]:
    """Shards by stage of a whole run; arguments as `expected_stages`."""
    counts: Counter[str] = Counter()
    for stage in expected_stages(config, train, heldout):
        counts[stage.stage] += stage.shards
    return counts


def _adapted(label: str, round_index: int, shards: int) -> Iterator[ExpectedStage]:
    """Self-edits, adapters, answers and scores under one label."""
    for stage in _INNER:
        yield ExpectedStage(stage, f"{stage} {label}", round_index, shards)
    yield ExpectedStage("score", f"score {label}", round_index, 1)


def _restem_round(index: int, shards: int) -> Iterator[ExpectedStage]:
    label = round_condition(index)
    for stage in _INNER:
        yield ExpectedStage(stage, f"{stage} {label}", index, shards)
    yield ExpectedStage("evaluate", f"evaluate {label} baseline", index, shards)
    for stage in ("score", "filter", "update"):
        yield ExpectedStage(stage, f"{stage} {label}", index, 1)


def expected_evaluation(round_index: int, heldout: int) -> list[ExpectedStage]:
    """Stages of the evaluation of one policy.

    Args:
        round_index: Whose policy it is measured as.
        heldout: Shards of problems.
    """
    baseline = ExpectedStage("evaluate", "evaluate baseline", CONTROL_ROUND, heldout)
    condition = round_condition(round_index)
    return [baseline, *_adapted(f"heldout {condition}", round_index, heldout)]


def evaluation_shards(heldout: int) -> Counter[str]:
    """Shards by stage of the evaluation of one policy; `heldout` are the shards of problems."""
    counts: Counter[str] = Counter()
    for stage in expected_evaluation(0, heldout):
        counts[stage.stage] += stage.shards
    return counts
