"""`seal results`: held-out accuracy by condition, with intervals and paired differences."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from flows.commands.options import STORE, JsonOption, StoreOption
from flows.terminal import table_console
from flows.views.results import held_out_results, print_results
from flows.views.standing import run_standing
from seal_core.errors import StoreError
from storage.sql.catalog import Catalog
from storage.store import Store


def results(
    name: Annotated[str, typer.Argument(help="Name of the run.")],
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """Prints the held-out accuracy of each condition of a run."""
    opened = Store.open(store, create=False)
    with Catalog(opened) as catalog:
        report = held_out_results(catalog, name)
    try:
        left = run_standing(opened, name).left
    except StoreError:
        left = None  # `seal status` says what is damaged.
    if as_json:
        typer.echo(json.dumps({**report.to_json(), "left": left}, indent=2))
        return
    console = table_console()
    print_results(report, console)
    if left:
        console.print(f"not finished, shards left: {left} (`seal status {name}`)")
