"""`seal estimate`: what a run makes and takes, before it begins."""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from typing import Annotated

import typer

from flows.commands.options import JsonOption
from flows.loading import load_config, store_setting
from tasks.opening.preflight import preflight


def estimate(
    config: Annotated[str, typer.Argument(help="TOML file of the experiment.")],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting, as section.key=value; may be repeated."),
    ] = None,
    store: Annotated[str | None, typer.Option(help="The store.", envvar="SEAL_STORE")] = None,
    as_json: JsonOption = False,
) -> None:
    """Tells a run's self-edits, adapters, answers, disk, memory and, if it is known, its time."""
    settings = list(overrides or [])
    if store is not None:
        settings.insert(0, store_setting(store))
    with redirect_stdout(sys.stderr):  # What packages print is no part of it.
        loaded = load_config(config, settings)
        checked = preflight(loaded, loaded.run.name or "estimate")
        # Prefect, which the stages import, takes seconds; wrong input is answered before.
        from flows import estimating  # noqa: PLC0415

        found = estimating.estimate(checked)
    if as_json:
        typer.echo(json.dumps(found.to_json(), indent=2))
    else:
        for line in estimating.estimate_lines(found):
            typer.echo(line)
