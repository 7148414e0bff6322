"""Runs the stages of a run, one after the other, and does what belongs to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from seal_core.errors import InputError, StoreError
from seal_core.stages import Handle, Place
from seal_core.types import CONTROL_ROUND, TableRef
from storage.runs.pruning import has_pruned, prune_adapters
from tasks.basis import Made, made
from tasks.caching.cache import look_up
from tasks.context import RunContext
from tasks.opening.model_note import note_model
from tasks.opening.preflight import Preflight
from tasks.running.interpreter import Builder, Works, given
from tasks.running.stage import run_shards
from tasks.stages.finetune import FINETUNE
from tasks.stages.policies import read_policy
from tasks.work import Stage, Work


class Run(Builder):
    """Carries stages out as Prefect tasks, inside a flow run.

    Args:
        context: Of the run; it is current.
    """

    def __init__(self, context: RunContext, checked: Preflight, shard_size: int) -> None:
        super().__init__(checked, shard_size)
        self._context = context

    def adopt_policy(self, ref: TableRef, round_index: int) -> Handle:
        """A policy of another run as one of this run, in whose partition it is linked.

        Raises:
            InputError: it was made from another base model.
        """
        context = self._context
        policy = read_policy(context, ref).policy
        if policy.model_digest != context.model_digest:
            raise InputError(
                f"policy {policy.policy_id} was made from another model "
                f"({policy.base_model}) than {context.config.model.path!r}: set model.path"
            )
        slot = "base policy" if round_index == CONTROL_ROUND else f"policy {policy.policy_id}"
        return given(slot, context.store.adopt(ref, context.name, round_index, slot))

    def keep_notes(self) -> None:
        """Writes what the source has beside the run's problems, and advice; no stage reads it."""
        checked, store = self._checked, self._context.store
        notes = (("left_out", checked.problems.left_out, "left out"),)
        for table, items, slot in (*notes, ("advice", checked.advice, "advice")):
            # There may have been some when the run was begun.
            if items or store.part_paths(table, self._context.name):
                self._put(table, items, slot)

    def retain(self, round_index: int) -> None:
        """Removes the weights that the run is not to keep, once nothing in the round needs them."""
        context, keep = self._context, self._context.config.execution.keep_adapters
        if keep == "all":
            return
        try:
            prune_adapters(context.store, context.name, keep, round_index)
        except StoreError as error:  # Whether another, damaged run needs them cannot be known.
            context.progress.note(f"weights of round {round_index} stay: {error}")

    def _told(self, ref: TableRef, tell: Callable[[list[Any]], Any]) -> Any:
        return tell(self._context.store.read(ref))

    def _put(self, table: str, rows: Sequence[Any], slot: str) -> TableRef:
        context = self._context
        part = {"run": context.name, "round_index": CONTROL_ROUND, "slot": slot}
        ref = context.store.write_part(table, rows, **part, write=False)
        if problem := context.store.verify(ref):
            if context.resumed and not self._is_older(ref):
                context.progress.note(f"{problem}; written again")
            context.store.write_part(table, rows, **part)
        return ref

    def _is_older(self, ref: TableRef) -> bool:
        """Whether another version of the code wrote the same rows in other bytes."""
        store = self._context.store
        if store.is_of_this_version(ref.path):
            return False
        try:
            return store.read_ref(ref.table, ref.path).content == ref.content
        except StoreError:
            return False

    def _stage(
        self, stage: Stage, at: Place, shards: int, works: Works, weights: Handle | None = None
    ) -> Made:
        context, built = self._context, works(self._basis)
        if weights is not None and self._restore(made(weights), built):
            built = works(self._basis)
        label = f"{stage.name} {at.label}"
        context.progress.stage(stage.name, label, len(built))
        done = run_shards(context, stage, built)
        note_model(context)
        context.progress.finish(label, done.cached, len(built))
        return Made(label, len(built), list(done.results), tuple(built))

    def _restore(self, adapters: Made, works: Sequence[Work]) -> bool:
        """Trains adapters again whose weights were removed, if what needs them is not cached.

        They may come out with other bits, so the handle has what was made now.

        Returns:
            Whether there were any.
        """
        context = self._context
        again = [
            i
            for i, (result, needs) in enumerate(zip(adapters.results, works, strict=True))
            if has_pruned(context.store, result.ref("adapters"))
            and look_up(context.store, needs, context.name).result is None
        ]
        if again:
            trained = [adapters.works[i] for i in again]
            done = run_shards(context, FINETUNE, trained, with_weights=True)
            for i, result in zip(again, done.results, strict=True):
                adapters.results[i] = result
        return bool(again)
