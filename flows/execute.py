"""Runs the `seal` flow for the command line, and prints what came of it."""

from __future__ import annotations

import json
from collections.abc import Sequence

import typer

from flows.loading import load_config
from flows.results import held_out_results, print_results
from flows.seal import seal
from flows.terminal import table_console
from storage.catalog import Catalog
from storage.store import Store


def execute(
    config: str,
    name: str | None,
    overrides: Sequence[str],
    fork: str | None = None,
    *,
    as_json: bool = False,
) -> None:
    """Runs the flow to its end, and prints the held-out results.

    Raises:
        InputError: wrong input; nothing was written.
        StageError, EngineError: the work failed; what is done is kept.
    """
    loaded = load_config(config, overrides)
    run = seal(config, name, list(overrides), fork)
    with Catalog(Store.open(loaded.execution.store)) as catalog:
        results = held_out_results(catalog, run)
    if as_json:
        typer.echo(json.dumps(results.to_json(), indent=2))
    else:
        print_results(results, table_console())
