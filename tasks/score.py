"""The score stage: rewards of a round's self-edits from their graded answers."""

from __future__ import annotations

from collections.abc import Sequence

from seal_core.chosen import make_reward
from seal_core.rewards.aggregate import score_self_edits
from seal_core.types import TableRef
from tasks.context import RunContext, current
from tasks.stage import run_stage, stage_task
from tasks.work import ShardResult, StageOutput, Work

VERSION = 2


def score(
    edits: Sequence[ShardResult],
    answers: Sequence[ShardResult],
    baseline: Sequence[ShardResult],
    *,
    label: str,
    round_index: int,
) -> TableRef:
    """Scores all self-edits of a round at once; the `scores` part."""
    work = Work.build(
        "score",
        VERSION,
        label=f"score {label}",
        shard=0,
        round_index=round_index,
        settings={
            "grader": current().config.evaluate.grader,
            "reward": current().config.reward.model_dump(mode="json"),
        },
        inputs={
            "self_edits": [result.ref("self_edits") for result in edits],
            "answers": [result.ref("answers") for result in answers],
            "baseline": [result.ref("answers") for result in baseline],
        },
    )
    return run_stage(score_shard, [work])[0].ref("scores")


def _score(context: RunContext, work: Work) -> StageOutput:
    """Aggregates answers into one reward per self-edit."""

    def rows(role: str) -> list:
        return [row for ref in work.inputs[role] for row in context.store.read(ref)]

    reward = make_reward(context.config)
    scores = score_self_edits(rows("self_edits"), rows("answers"), rows("baseline"), reward)
    return StageOutput({"scores": scores})


score_shard = stage_task("score", _score)
