"""`seal results`: held-out accuracy by condition, with intervals and paired differences."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from flows.commands.options import STORE, JsonOption, StoreOption
from flows.hints import complete
from flows.terminal import table_console
from flows.views.advice import advice_of
from flows.views.results import held_out_results, print_results
from flows.views.standing import shards_left, unfinished
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
        advice = advice_of(catalog, name)
    left = shards_left(opened, name)
    if as_json:
        told = {**report.to_json(), "left": left, "advice": [asdict(item) for item in advice]}
        typer.echo(json.dumps(told, indent=2))
        return
    console = table_console()
    print_results(report, console)
    for line in (*(f"advice: {item}" for item in advice), *unfinished(name, left)):
        console.print(complete(line), markup=False)
