"""What looks like a mistake in a set-up before the run: told, recorded, and no reason to stop."""

from __future__ import annotations

from seal_core.config import Config
from seal_core.domains.base import ProblemSet
from seal_core.models.files.model_facts import has_chat_template, told_context
from seal_core.types import Advice

_FEW = 20


def advice_before(config: Config, model_path: str, problems: ProblemSet) -> tuple[Advice, ...]:
    """One piece of advice for each setting that seems wrong."""
    found = []
    if not config.uses_chat and has_chat_template(model_path):
        found.append(
            Advice(
                "rows.variant",
                "the model has a chat template, and 'base' asks it in plain text: set "
                "rows.variant = 'instruct' if it was tuned to chat",
            )
        )
    context = told_context(model_path)
    if context is not None and config.sample.max_tokens > context:
        found.append(
            Advice(
                "sample.max_tokens",
                f"{config.sample.max_tokens} tokens are beyond the model's context of {context}: a "
                "self-edit that long is cut where the context ends",
            )
        )
    if len(problems.heldout) < _FEW:
        found.append(
            Advice(
                "data.heldout_limit",
                f"{len(problems.heldout)} held-out problems give wide intervals: hold out at "
                f"least {_FEW}, by data.heldout_path, heldout_share or heldout_limit",
            )
        )
    return tuple(found)
