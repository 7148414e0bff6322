"""`seal verify`: holds a store against its digests, and names what is damaged."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from flows.commands.options import STORE, JsonOption, StoreOption
from storage.runs.registry import get_run, list_runs
from storage.store import Store
from tasks.caching.verifying import Verified, verify_runs


def verify(
    name: Annotated[str | None, typer.Argument(help="Only this run.")] = None,
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """Reads all of a store and checks it; exit code 1 if anything is damaged. Changes nothing."""
    opened = Store.open(store, create=False)
    names = [get_run(opened, name).run] if name else [row.run for row in list_runs(opened)]
    found = verify_runs(opened, names)
    if as_json:
        typer.echo(json.dumps(found.to_json(), indent=2))
    else:
        for problem in found.problems:
            typer.echo(problem)
        typer.echo(_summary(found))
    if found.problems:
        raise typer.Exit(1)


def _summary(found: Verified) -> str:
    checked = (
        f"{found.runs} runs, {found.parts} parts with their adapters, {found.results} results: "
    )
    damaged = len(found.problems)
    state = f"{damaged} damaged" if damaged else "all whole"
    if found.damaged_runs:
        state += f"; resume {', '.join(found.damaged_runs)}"
    if not found.unproven:
        return checked + state
    more = f"; {found.unproven} parts are no shard's (problems, policies, imports) and can be read"
    return checked + state + more
