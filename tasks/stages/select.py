"""The filter stage: decides which self-edits the policy learns from."""

from __future__ import annotations

from seal_core.errors import StageError
from seal_core.kinds.chosen import make_selection
from seal_core.kinds.proofs import selections_fault
from seal_core.stages import Handle, Place
from tasks.basis import Basis, refs
from tasks.context import RunContext
from tasks.work import Stage, StageOutput, Work


def filter_works(basis: Basis, scores: Handle, at: Place) -> list[Work]:
    """Keeps self-edits of a round by the configured selection."""
    settings = basis.config.selection.model_dump(mode="json")
    return [basis.work(FILTER, at, settings, {"scores": refs(scores, "scores")})]


def _filter(context: RunContext, work: Work) -> StageOutput:
    """Applies the configured selection to a round's scores."""
    scores = [row for ref in work.inputs["scores"] for row in context.store.read(ref)]
    found = make_selection(context.config).select(scores)
    if fault := selections_fault(scores, found):
        raise StageError(f"selection.kind = {context.config.selection.kind!r} {fault}")
    return StageOutput({"selections": found})


FILTER = Stage("filter", version=2, table="selections", uses=None, body=_filter)
