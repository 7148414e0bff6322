"""The filter stage: decides which self-edits the policy learns from."""

from __future__ import annotations

from seal_core.chosen import make_selection
from seal_core.types import TableRef
from tasks.context import RunContext, current
from tasks.stage import run_stage, stage_task
from tasks.work import StageOutput, Work

VERSION = 2


def filter_edits(scores: TableRef, *, round_index: int) -> TableRef:
    """Keeps the best self-edits of a round by the configured rule; the `selections` part."""
    work = Work.build(
        "filter",
        VERSION,
        label=f"filter round_{round_index}",
        shard=0,
        round_index=round_index,
        settings=current().config.selection.model_dump(mode="json"),
        inputs={"scores": [scores]},
    )
    return run_stage(filter_shard, [work])[0].ref("selections")


def _filter(context: RunContext, work: Work) -> StageOutput:
    """Applies the filter rule to a round's scores."""
    scores = [row for ref in work.inputs["scores"] for row in context.store.read(ref)]
    return StageOutput({"selections": make_selection(context.config).select(scores)})


filter_shard = stage_task("filter", _filter)
