"""`seal plugins`: the kinds that a config may name."""

from __future__ import annotations

import json
from dataclasses import asdict

import typer
from rich.table import Table

from flows.commands.options import JsonOption
from flows.terminal import table_console
from seal_core.kinds.entry_points import all_kinds


def plugins(as_json: JsonOption = False) -> None:
    """Lists the kinds of each point, built in or of installed packages; imports none of them."""
    kinds = all_kinds()
    if as_json:
        typer.echo(json.dumps([asdict(kind) for kind in kinds], indent=2))
        return
    table = Table()
    for column in ("section", "kind", "from", "problem"):
        table.add_column(column)
    for kind in kinds:
        table.add_row(kind.point, kind.name, kind.package or "built in", kind.problem)
    table_console().print(table)
