"""`seal demo`: the whole loop on the model that ships with the package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.options import JsonOption
from flows.commands.running.run import run

_PACKAGED = Path(__file__).parents[2] / "configs" / "demo.toml"
_CHECKOUT = Path(__file__).parents[3] / "configs" / "demo.toml"


def demo_config() -> Path:
    """The demo's config file: in the wheel, or beside the packages in a checkout."""
    return _PACKAGED if _PACKAGED.is_file() else _CHECKOUT


def demo(
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting, as section.key=value; may be repeated."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the run.")] = None,
    store: Annotated[str | None, typer.Option(help="The store.", envvar="SEAL_STORE")] = None,
    config: Annotated[
        bool, typer.Option("--config", help="Print the path of the config, and run nothing.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Runs the demo, or resumes it: two rounds in a synthetic world, a few minutes on a CPU."""
    path = str(demo_config())
    if config:
        typer.echo(path)
        return
    run(path, name, overrides, store, as_json=as_json)
