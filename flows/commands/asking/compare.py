"""`seal compare`: two runs, paired by held-out problem."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from flows.commands.options import STORE, JsonOption, StoreOption
from flows.hints import complete
from flows.terminal import table_console
from flows.views.comparison import compare_runs, print_comparison
from flows.views.standing import shards_left, unfinished
from storage.sql.catalog import Catalog
from storage.store import Store


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="Name of a run.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Name of another run.")],
    grading: Annotated[
        str | None,
        typer.Option(help="Compare by this stored grading, where the runs had different graders."),
    ] = None,
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """Compares two runs: accuracy by condition, settings that differ, and cost."""
    opened = Store.open(store, create=False)
    with Catalog(opened) as catalog:
        found = compare_runs(catalog, a, b, grading)
    left = {run: shards_left(opened, run) for run in (a, b)}
    if as_json:
        typer.echo(json.dumps({**found.to_json(), "left": left}, indent=2))
        return
    console = table_console()
    print_comparison(found, console)
    for run in (a, b):
        for line in unfinished(run, left[run]):
            console.print(complete(line))
