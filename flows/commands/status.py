"""`seal status`: runs, rounds and stages; what is done, what failed, and what it took."""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated

import typer
from rich.table import Table

from flows.commands.options import STORE, JsonOption, StoreOption
from flows.terminal import table_console
from storage.runs import list_runs
from storage.status import run_status
from storage.store import Store


def status(
    name: Annotated[str | None, typer.Argument(help="Only this run.")] = None,
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """Prints the stages of each run: shards, units, errors, seconds and tokens."""
    opened = Store.open(store, create=False)
    names = [name] if name else [row.run for row in list_runs(opened)]
    reports = {run: run_status(opened, run) for run in names}
    if as_json:
        plain = {
            run: [dataclasses.asdict(line) for line in lines] for run, lines in reports.items()
        }
        typer.echo(json.dumps(plain, indent=2))
        return
    console = table_console()
    if not reports:
        console.print("no runs yet: start one with `seal run configs/demo.toml`")
    for run, lines in reports.items():
        console.print(_table(run, lines))


def _table(run: str, lines: list) -> Table:
    table = Table(title=f"Run {run}", title_justify="left")
    for column in ("stage", "shards", "failed", "units", "errors", "seconds", "tokens"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for line in lines:
        table.add_row(
            line.label,
            str(line.shards),
            str(line.failed),
            str(line.units),
            str(line.errors),
            f"{line.seconds:.1f}",
            str(line.tokens),
        )
    return table
