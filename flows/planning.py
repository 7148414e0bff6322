"""Plans a run: what is done, what would run, and which changed field is the reason."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from flows.progress import PlainProgress
from flows.seal import restem
from tasks.plan import open_plan
from tasks.planning import PlannedStage
from tasks.preflight import Preflight


@dataclass(frozen=True)
class RunPlan:
    """The stages of a run as they would go.

    Attributes:
        compared: Run that reasons compare with; None if there is none.
        damaged: Shards that run again since something of theirs is damaged.
        refused: Settings for which `seal run` would refuse this name, as `key: old -> new`.
    """

    run: str
    compared: str | None
    refused: list[str]
    damaged: int
    stages: list[PlannedStage]

    def to_json(self) -> dict[str, Any]:
        """What `seal plan --json` prints."""
        return asdict(self)


def plan_run(checked: Preflight, fork: str | None = None) -> RunPlan:
    """Walks through the run's stages; reads the store and changes nothing in it.

    Raises:
        InputError: there is no run to fork.
    """
    with open_plan(checked, PlainProgress(Console(quiet=True)), fork) as plan:
        restem(plan.run)
        planner = plan.planner
        return RunPlan(checked.name, plan.compared, plan.refused, planner.damaged, planner.stages)


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
    if plan.refused:
        console.print(
            f"`seal run` refuses this under the name {plan.run!r}, which stands for another config "
            f"({'; '.join(plan.refused)}): add --name NEW --fork {plan.run}",
        )
