"""`seal run`: runs, or resumes, a SEAL run and prints its held-out table."""

from __future__ import annotations

import shlex
import sys
from typing import Annotated

import typer
from rich.console import Console

from flows.commands.options import JsonOption
from flows.environment import prepare_prefect
from flows.loading import load_config


def run(
    config: Annotated[str, typer.Argument(help="TOML file of the experiment.")],
    name: Annotated[str | None, typer.Option(help="Name of the run.")] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting, as section.key=value; may be repeated."),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            help="Folder of the store; same as --set execution.store=…", envvar="SEAL_STORE"
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Runs an experiment, or resumes it where it stopped; ends with the results table."""
    settings = list(overrides or [])
    if store is not None:
        settings.append(f"execution.store={store}")
    loaded = load_config(config, settings)
    prepare_prefect(loaded.execution.store)
    # Prefect reads its settings when it is imported, so nothing above may import it.
    from flows.execute import execute  # noqa: PLC0415

    try:
        execute(config, name, settings, as_json=as_json)
    except KeyboardInterrupt:
        _stopped(sys.argv[1:])
        raise typer.Exit(130) from None


def _stopped(arguments: list[str]) -> None:
    again = shlex.join(["seal", *arguments])
    Console(stderr=True, highlight=False, soft_wrap=True).print(
        f"\nseal: stopped. Finished shards are kept; go on with: {again}", markup=False
    )
