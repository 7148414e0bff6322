"""Plans a run: what is done, what would run, and which changed field is the reason."""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from flows.progress import PlainProgress
from flows.seal import restem
from seal_core.config import Config, LoraSection
from tasks.lora import all_targets
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
    """Walks through the run's stages; reads the store and changes nothing in it.

    Raises:
        InputError: there is no run to fork.
    """
    with open_plan(checked, PlainProgress(Console(quiet=True)), fork) as plan:
        restem(plan.run)
        planner = plan.planner
        verdict = plan.verdict
        return RunPlan(
            run=checked.name,
            compared=plan.compared,
            refused=plan.refused,
            damaged=planner.damaged,
            stages=planner.stages,
            model=checked.config.model.path,
            model_verdict=None if verdict is None else str(verdict),
            model_refused=None if verdict is None else verdict.refused,
            model_check=_model_check(checked.config),
        )


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
