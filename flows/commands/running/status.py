"""`seal status`: runs, rounds and stages; what is done, what failed, and what it took."""

from __future__ import annotations

import json
from collections import Counter
from typing import Annotated

import typer
from rich.table import Table

from flows.commands.options import STORE, JsonOption, StoreOption
from flows.terminal import table_console
from flows.views.formats import visible
from flows.views.standing import RunStanding, run_standing
from storage.runs.registry import list_runs
from storage.store import Store
from tasks.running.engines_used import mixtures

_COLUMNS = ("stage", "shards", "done", "cached", "failed", "killed", "left")
_COLUMNS += ("units", "errors", "wall s", "worker s", "tokens")


def status(
    name: Annotated[str | None, typer.Argument(help="Only this run.")] = None,
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """Prints the stages of each run: done, cached, failed and left; time and tokens spent."""
    opened = Store.open(store, create=False)
    names = [name] if name else [row.run for row in list_runs(opened)]
    runs = [run_standing(opened, run) for run in names]
    if as_json:
        typer.echo(json.dumps({run.run: run.to_json() for run in runs}, indent=2))
        return
    console = table_console()
    if not runs:
        console.print("no runs yet: start one with `seal demo`")
    for run in runs:
        console.print(_table(run))
        for line in run.stages:
            if line.last_error is not None:
                console.print(f"{line.label} failed: {_brief(line.last_error)}", markup=False)
        console.print(_summary(run))
        if run.model is not None:
            console.print(f"model {run.model}")
        for line in _engines(run):
            console.print(line)


def _table(run: RunStanding) -> Table:
    table = Table(title=f"Run {run.run}", title_justify="left")
    for column in _COLUMNS:
        table.add_column(column, justify="left" if column == "stage" else "right")
    for line in run.stages:
        counts = (line.shards, line.done, line.cached, line.failed, line.killed, line.left)
        times = (f"{line.wall:.1f}", f"{line.seconds:.1f}")
        spent = (str(line.units), str(line.errors), *times, str(line.tokens))
        table.add_row(line.label, *("–" if n is None else str(n) for n in counts), *spent)
    return table


def _brief(error: str) -> str:
    """The first line and the last, which is the cause where a log's end was added."""
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    return visible(" … ".join(dict.fromkeys([*lines[:1], *lines[-1:]])))


def _engines(run: RunStanding) -> list[str]:
    """What answered and what trained, or between which the run is divided."""
    purposes = Counter(use.purpose for use in run.engines)
    alone = [f"{use.purpose} by {use}" for use in run.engines if purposes[use.purpose] == 1]
    return [*alone, *mixtures(run.engines)]


def _summary(run: RunStanding) -> str:
    if run.imported:
        return "imported from a file; nothing was executed"
    fork = f"fork of {run.parent_run}; " if run.parent_run else ""
    seconds = sum(line.seconds for line in run.stages)
    wall = sum(line.wall for line in run.stages)
    tokens = sum(line.tokens for line in run.stages)
    flight = f"; {run.in_flight} in flight or killed since" if run.in_flight else ""
    if run.left is None:
        state = "what is left is not known" if run.stages else "registered, nothing executed yet"
    else:
        state = f"{run.left} shards left" if run.left else "complete"
    return (
        f"{fork}{state}{flight}; {wall:.1f} s of stages, {seconds:.1f} of workers, {tokens} tokens"
    )
