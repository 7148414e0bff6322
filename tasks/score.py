"""The score stage: rewards of a round's self-edits from their graded answers."""

from __future__ import annotations

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
    return [basis.work(SCORE, at, {"grader": basis.config.evaluate.grader}, inputs)]


def _score(context: RunContext, work: Work) -> StageOutput:
    """Aggregates answers into one reward per self-edit."""

    def rows(role: str) -> list:
        return [row for ref in work.inputs[role] for row in context.store.read(ref)]

    scores = score_self_edits(rows("self_edits"), rows("answers"), rows("baseline"))
    return StageOutput({"scores": scores})


SCORE = Stage("score", version=1, table="scores", uses=None, body=_score)
