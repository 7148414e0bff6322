"""Opens a run in which every stage is planned and nothing is run or written."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, cast

from seal_core.config_changes import config_changes
from seal_core.errors import InputError
from seal_core.probe.verdict import Verdict
from storage.runs.importing import is_imported
from storage.runs.registry import get_run, list_runs
from storage.store import Store
from storage.tables.store_rows import RunRow
from tasks.context import Progress, RunContext, use
from tasks.model_trial import remembered_verdict
from tasks.opening import OpenRun, cut_shards
from tasks.planning import Planner
from tasks.preflight import Preflight


@dataclass(frozen=True)
class OpenPlan:
    """A run as it would be.

    Attributes:
        refused: Settings in which the config differs from that of the run of this name.
        compared: Run that reasons compare with; None if there is none.
        verdict: On the run's model, if this machine remembers one.
    """

    run: OpenRun
    planner: Planner
    refused: list[str]
    compared: str | None
    verdict: Verdict | None


@contextmanager
def open_plan(
    checked: Preflight, progress: Progress, fork: str | None = None
) -> Iterator[OpenPlan]:
    """Makes a run current whose stages are planned only; see `tasks.planning`.

    Raises:
        InputError: there is no run to fork, or the name is that of an imported run.
    """
    with ExitStack() as stack:
        store = _store_to_read(checked.config.execution.store, stack)
        checked = checked.digested(store)
        own, earlier = _earlier_runs(store, checked.name, fork)
        if own is not None and is_imported(own):
            raise InputError(f"run {own.run!r} was imported from a file: choose another --name")
        context = RunContext(
            name=checked.name,
            config=checked.config,
            model_path=checked.model_path,
            model_digest=checked.model_digest,
            domain=checked.domain,
            store=store,
            # No task runs in a plan, so no engine is ever asked.
            generator=cast(Any, None),
            trainer=cast(Any, None),
            progress=progress,
            planner=Planner([row.run for row in earlier]),
        )
        size = earlier[0].shard_size if own or fork else checked.config.execution.shard_size
        with use(context):
            yield OpenPlan(
                run=cut_shards(context, checked, size),
                planner=cast(Planner, context.planner),
                refused=config_changes(json.loads(own.config_json), checked.identity())
                if own
                else [],
                compared=earlier[0].run if earlier else None,
                verdict=remembered_verdict(checked, store),
            )


def _earlier_runs(store: Store, name: str, fork: str | None) -> tuple[RunRow | None, list[RunRow]]:
    """The run of this name, and the runs to compare with: itself, its parent, the latest."""
    rows = list_runs(store)
    own = next((row for row in rows if row.run == name), None)
    parent = get_run(store, fork) if fork is not None else None
    return own, [row for row in (own, parent, *rows[-1:]) if row is not None]


def _store_to_read(root: str, stack: ExitStack) -> Store:
    """The store, or an empty one where there is none yet."""
    if Store.is_new(root):
        return Store.open(stack.enter_context(tempfile.TemporaryDirectory(prefix="seal-plan-")))
    return Store.open(root, create=False)
