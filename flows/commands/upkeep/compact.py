"""`seal compact`: one file in place of the many parts of each closed round."""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated

import typer
from rich.table import Table

from flows.commands.options import STORE, JsonOption, StoreOption
from flows.terminal import table_console
from storage.runs.compaction import CompactedPartition
from storage.runs.compaction import compact as compact_store
from storage.store import Store


def compact(
    name: Annotated[str | None, typer.Argument(help="Only this run.")] = None,
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """Compacts the closed rounds of each run; cached results stay valid, and no row changes."""

    def note(message: str) -> None:
        typer.echo(message, err=True)

    done = compact_store(Store.open(store, create=False), name, note)
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(item) for item in done], indent=2))
    elif not done:
        typer.echo("nothing to compact: every closed round is in few files already")
    else:
        table_console().print(_table(done))


def _table(done: list[CompactedPartition]) -> Table:
    table = Table()
    for column in ("run", "table", "round", "files before", "rows", "MB before", "MB after"):
        table.add_column(column, justify="left" if column in ("run", "table") else "right")
    for item in done:
        sizes = (f"{n / 1e6:.2f}" for n in (item.bytes_before, item.bytes_after))
        table.add_row(
            item.run, item.table, str(item.round_index), str(item.files), str(item.rows), *sizes
        )
    return table
