"""The score stage: rewards of a round's self-edits from their graded answers."""

from __future__ import annotations

from seal_core.kinds.chosen import make_reward
from seal_core.rewards.aggregate import score_self_edits
from seal_core.stages import Handle, Place
from tasks.basis import Basis, refs
from tasks.context import RunContext
from tasks.work import Stage, StageOutput, Work


def score_works(
    basis: Basis, edits: Handle, answers: Handle, baseline: Handle, at: Place
) -> list[Work]:
    """Scores all self-edits of a round at once."""
    inputs = {
        "self_edits": refs(edits, "self_edits"),
        "answers": refs(answers, "answers"),
        "baseline": refs(baseline, "answers"),
    }
    config = basis.config
    settings = {
        "grader": config.evaluate.grader,
        "reward": config.reward.model_dump(mode="json"),
    }
    return [basis.work(SCORE, at, settings, inputs)]


def _score(context: RunContext, work: Work) -> StageOutput:
    """Aggregates answers into one reward per self-edit."""

    def rows(role: str) -> list:
        return [row for ref in work.inputs[role] for row in context.store.read(ref)]

    reward = make_reward(context.config)
    scores = score_self_edits(rows("self_edits"), rows("answers"), rows("baseline"), reward)
    return StageOutput({"scores": scores})


SCORE = Stage("score", version=2, table="scores", uses=None, body=_score)
