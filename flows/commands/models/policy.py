"""`seal policy`: lineage of policies, and the weights that runs keep."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from flows.commands.options import STORE, JsonOption, StoreOption
from flows.terminal import table_console
from seal_core.errors import InputError
from storage.runs.leases import hold_run
from storage.runs.pruning import prune_adapters
from storage.runs.registry import get_run
from storage.sql.catalog import Catalog
from storage.store import Store

app = typer.Typer(help="Policies and the weights of a run's adapters.", no_args_is_help=True)

_LINEAGE = "SELECT run, round, policy_id, parent, n_examples, n_steps, final_loss, uri"


@app.command("list")
def list_(
    name: Annotated[str | None, typer.Argument(help="Only this run.")] = None,
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """Lists policies with what each was trained from."""
    opened = Store.open(store, create=False)
    if name:
        get_run(opened, name)
    with Catalog(opened) as catalog:
        where = "WHERE run = $run" if name else ""
        sql = f"{_LINEAGE} FROM policy_lineage {where} ORDER BY run, depth, policy_id"
        rows = catalog.records(sql, **({"run": name} if name else {}))
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    table = Table(title="Policies", title_justify="left")
    for column in ("run", "policy", "trained from", "examples", "steps", "loss"):
        table.add_column(column, justify="left" if column in ("run", "policy") else "right")
    for row in rows:
        loss = "–" if row["final_loss"] is None else f"{row['final_loss']:.3f}"
        counts = (str(row[key] or 0) for key in ("n_examples", "n_steps"))
        table.add_row(row["run"], row["policy_id"], row["parent"] or "base model", *counts, loss)
    table_console().print(table)


@app.command()
def prune(
    name: Annotated[str, typer.Argument(help="Name of the run.")],
    keep: Annotated[
        str, typer.Option(help="Weights that stay: those of `selected` self-edits, or `none`.")
    ] = "selected",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would do.")] = False,
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """Removes weights of a run's adapters; rows stay, and policies keep theirs."""
    if keep not in ("selected", "none"):
        raise InputError(f"--keep {keep!r}: choose selected or none")
    opened = Store.open(store, create=False)
    get_run(opened, name)
    busy = f"run {name!r} is being executed: prune it when it has ended"
    with hold_run(opened, name, busy):
        done = prune_adapters(opened, name, keep, dry_run=dry_run)  # pyright: ignore[reportArgumentType]
    if as_json:
        typer.echo(json.dumps(asdict(done), indent=2))
    else:
        verb = "would remove" if dry_run else "removed"
        shared = (
            f", {done.shared} since other runs or policies have them too" if done.shared else ""
        )
        typer.echo(
            f"{verb} the weights of {done.removed} adapters of {name}; {done.kept} stay{shared}"
        )
