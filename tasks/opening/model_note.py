"""Tells the user, once per run, that its model can only be used in a slow way."""

from __future__ import annotations

from seal_core.probe.verdict_files import recorded_verdict
from storage.runs.status import verdict_path
from tasks.context import RunContext


def note_model(context: RunContext) -> None:
    """Notes it after the first stage that used the model."""
    if context.model_noted:
        return
    verdict = recorded_verdict(verdict_path(context.store, context.name))
    if verdict is None:
        return
    context.model_noted = True
    if not verdict.is_fast:
        context.progress.note(
            f"model {context.config.model.path} is {verdict}. Batches would give other results: "
            "`seal model check` says which; docs/models.md lists models that are fast"
        )
