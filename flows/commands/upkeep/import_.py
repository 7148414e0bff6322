"""`seal import`: result files of the reference implementation, as a run in the store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from flows.commands.options import STORE, JsonOption, StoreOption
from seal_core.errors import InputError
from seal_core.published.records import Kind, read_published
from storage.runs.importing import import_run
from storage.runs.registry import list_runs
from storage.store import Store
from storage.tables.paths import check_run

_NEXT = {
    "train": "seal sql rewards_by_round",
    "heldout": "seal results {run}",
    "pretraining": "seal results {run}",
    "continual": "seal sql forgetting",
}


def import_file(
    file: Annotated[Path, typer.Argument(help="JSON file with published results.")],
    name: Annotated[
        str | None, typer.Option(help="Name of the run; without it, the file's without .json.")
    ] = None,
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """Reads published results into the tables; the same file again changes nothing."""
    run = _run_name(file, name)
    published = read_published(file)
    opened = Store.open(store)
    known = run in {row.run for row in list_runs(opened)}
    counts = import_run(opened, run, published)
    if as_json:
        typer.echo(json.dumps({"run": run, "kind": published.kind, "rows": counts}, indent=2))
    else:
        typer.echo(_told(run, published.kind, counts, known))


def _run_name(file: Path, name: str | None) -> str:
    if name is not None:
        return check_run(name)
    try:
        return check_run(file.stem)
    except InputError as error:
        raise InputError(f"{error}; give the run another one with --name") from None


def _told(run: str, kind: Kind, counts: dict[str, int], known: bool) -> str:
    rows = ", ".join(f"{table} {count}" for table, count in counts.items())
    done = "there already, and checked: run" if known else "imported as run"
    return f"{done} {run}; rows: {rows}\nask it: {_NEXT[kind].format(run=run)}"
