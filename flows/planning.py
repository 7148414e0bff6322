"""Plans a run: what is done, what would run, and which changed field is the reason."""

from __future__ import annotations

import json
import shlex
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from flows.seal import restem
from seal_core.config import Config, LoraSection
from seal_core.config_changes import config_changes
from seal_core.errors import InputError
from storage.runs.importing import is_imported
from storage.runs.registry import get_run, list_runs
from storage.store import Store
from storage.tables.store_rows import RunRow
from tasks.opening.model_trial import remembered_verdict
from tasks.opening.preflight import Preflight
from tasks.running.plan import Plan, PlannedStage
from tasks.stages.lora import all_targets


@dataclass(frozen=True)
class RunPlan:
    """The stages of a run as they would go.

    Attributes:
        compared: Run that reasons compare with; None if there is none.
        damaged: Shards that run again since something of theirs is damaged.
        refused: Settings for which `seal run` would refuse this name, as `key: old -> new`.
        model: The model's path.
        model_verdict: What is remembered of it; None if it was not tried yet.
        model_refused: Why `seal run` would refuse it, as far as is remembered.
        model_check: The command that tries it beforehand.
    """

    run: str
    compared: str | None
    refused: list[str]
    damaged: int
    stages: list[PlannedStage]
    model: str
    model_verdict: str | None
    model_refused: str | None
    model_check: str

    def to_json(self) -> dict[str, Any]:
        """What `seal plan --json` prints."""
        return asdict(self)


def plan_run(checked: Preflight, fork: str | None = None) -> RunPlan:
    """Plans all stages of a run; reads the store and changes nothing in it.

    Raises:
        InputError: there is no run to fork, or the name is that of an imported run.
    """
    with _store_to_read(checked.config.execution.store) as store:
        checked = checked.digested(store)
        own, earlier = _earlier_runs(store, checked.name, fork)
        if own is not None and is_imported(own):
            raise InputError(f"run {own.run!r} was imported from a file: choose another --name")
        size = earlier[0].shard_size if own or fork else checked.config.execution.shard_size
        plan = Plan(store, checked, size, [row.run for row in earlier])
        restem(plan, checked.config)
        verdict = remembered_verdict(checked, store)
        return RunPlan(
            run=checked.name,
            compared=earlier[0].run if earlier else None,
            refused=config_changes(json.loads(own.config_json), checked.identity()) if own else [],
            damaged=plan.damaged,
            stages=plan.stages,
            model=checked.config.model.path,
            model_verdict=None if verdict is None else str(verdict),
            model_refused=None if verdict is None else verdict.refused,
            model_check=_model_check(checked.config),
        )


def _earlier_runs(store: Store, name: str, fork: str | None) -> tuple[RunRow | None, list[RunRow]]:
    """The run of this name, and the runs to compare with: itself, its parent, the latest."""
    rows = list_runs(store)
    done = [row for row in rows if not is_imported(row)]
    own = next((row for row in rows if row.run == name), None)
    parent = get_run(store, fork) if fork is not None else None
    return own, [row for row in (own, parent, *done[-1:]) if row is not None]


@contextmanager
def _store_to_read(root: str) -> Iterator[Store]:
    """The store, or an empty one where there is none yet."""
    if not Store.is_new(root):
        yield Store.open(root, create=False)
        return
    with tempfile.TemporaryDirectory(prefix="seal-plan-") as folder:
        yield Store.open(folder)


def _model_check(config: Config) -> str:
    targets = all_targets(config)
    options = [("--target", name) for name in targets if targets != LoraSection().targets]
    options += [("--dtype", config.model.dtype), ("--device", config.execution.device)]
    given = [word for option in options if option[1] != "auto" for word in option]
    return shlex.join(["seal", "model", "check", config.model.path, *given])


def print_plan(plan: RunPlan, console: Console) -> None:
    """One row per stage, and what it comes to."""
    table = Table(title=f"Plan of run {plan.run}", title_justify="left")
    for name in ("stage", "shards", "cached", "to run", "why"):
        table.add_column(name, justify="left" if name in ("stage", "why") else "right")
    for stage in plan.stages:
        left = stage.shards - stage.cached
        table.add_row(
            stage.label, str(stage.shards), str(stage.cached), str(left), "; ".join(stage.reasons)
        )
    console.print(table)
    left = sum(stage.shards - stage.cached for stage in plan.stages)
    total = sum(stage.shards for stage in plan.stages)
    compared = f" Compared with run {plan.compared}." if plan.compared and left else ""
    if plan.damaged:
        console.print(
            f"At most {left} of {total} shards would run: {plan.damaged} are damaged, and what "
            f"follows from them runs again only if their rows come out otherwise.{compared}",
        )
    else:
        console.print(f"{left} of {total} shards would run.{compared}")
    if left and plan.model_refused:
        console.print(f"`seal run` refuses the model {plan.model}: {plan.model_refused}")
    elif left and plan.model_verdict is None:
        console.print(
            f"The model {plan.model} was not tried yet: `seal run` tries it before the first "
            f"answers, and `{plan.model_check}` at any time."
        )
    if plan.refused:
        console.print(
            f"`seal run` refuses this under the name {plan.run!r}, which stands for another config "
            f"({'; '.join(plan.refused)}): add --name NEW --fork {plan.run}",
        )
