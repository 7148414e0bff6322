"""Removes the weights of a round that is done with, as `execution.keep_adapters` says."""

from __future__ import annotations

from collections.abc import Sequence

from storage.runs.pruning import has_pruned, prune_adapters, unprune
from tasks.cache import look_up
from tasks.context import current
from tasks.finetune import finetune_shard
from tasks.planning import is_pending
from tasks.stage import run_stage
from tasks.work import ShardResult, Work


def retain_adapters(round_index: int) -> None:
    """Removes the weights that the run is not to keep, once nothing in the round needs them."""
    context = current()
    keep = context.config.execution.keep_adapters
    if keep != "all" and context.planner is None:
        prune_adapters(context.store, context.name, keep, round_index)


def restore_weights(works: Sequence[Work], adapters: Sequence[ShardResult]) -> None:
    """Trains adapters again whose weights were removed, if work that needs them is not cached."""
    context = current()
    again = []
    for work, result in zip(works, adapters, strict=True):
        ref = result.ref("adapters")
        if is_pending(ref) or not has_pruned(context.store, ref):
            continue
        if look_up(context.store, work, context.name).result is None and result.work:
            again.append(result)
    if again and context.planner is None:
        for result in again:
            unprune(context.store, result.ref("adapters"))
        run_stage(finetune_shard, [result.work for result in again if result.work])
