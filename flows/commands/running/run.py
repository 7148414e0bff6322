"""`seal run`: runs, or resumes, a SEAL run and prints its held-out table."""

from __future__ import annotations

import shlex
import signal
import sys
from contextlib import redirect_stdout
from typing import Annotated

import typer
from rich.console import Console

from flows.commands.options import JsonOption, RehashOption
from flows.loading import load_config, store_setting
from flows.prefect_server.environment import prepare_prefect
from flows.prefect_server.server import check_named_server, start_server
from tasks.opening.claiming import check_free, check_name
from tasks.opening.preflight import preflight
from tasks.opening.signals import ended_once


class Terminated(KeyboardInterrupt):
    """SIGTERM: ends the run in the same good order as ctrl-C."""


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
            help="Folder or s3:// URL of the store; same as --set execution.store=…",
            envvar="SEAL_STORE",
        ),
    ] = None,
    fork: Annotated[
        str | None, typer.Option(help="Start from the finished work of this run.")
    ] = None,
    rehash: RehashOption = False,
    as_json: JsonOption = False,
) -> None:
    """Runs an experiment, or resumes it where it stopped; ends with the results table."""
    signal.signal(signal.SIGTERM, _terminate)
    settings = list(overrides or [])
    if store is not None:
        # First in line: an explicit --set wins over the variable.
        settings.insert(0, store_setting(store))
    with ended_once():
        try:
            check_named_server()
            with redirect_stdout(sys.stderr):  # What packages print is no part of the results.
                store_root = check(config, name, settings, fork, rehash)
            start_server(prepare_prefect(store_root))
            # Prefect reads its settings when it is imported, so nothing above may import it.
            from flows.execute import execute  # noqa: PLC0415

            execute(config, name, settings, fork, as_json=as_json)
        except KeyboardInterrupt as stop:
            _stopped(sys.argv[1:])
            raise typer.Exit(143 if isinstance(stop, Terminated) else 130) from None


def check(
    config: str,
    name: str | None,
    settings: list[str],
    fork: str | None = None,
    rehash: bool = False,
) -> str:
    """Checks all input and the run's name before Prefect starts; the store's folder.

    A mistake shows at once this way, and not after the seconds that a server takes to start.
    """
    # What is found is remembered, so that the flow need not hash the files again.
    checked = preflight(load_config(config, settings), name, rehash)
    named = check_name(checked, fork, _note)
    check_free(named)
    return str(named.store.root)


def _note(message: str) -> None:
    typer.echo(f"note: {message}", err=True)


def _terminate(*_: object) -> None:
    """While the flow works, Prefect's own handler is in place, and calls this one at its end."""
    raise Terminated


def _stopped(arguments: list[str]) -> None:
    again = shlex.join(["seal", *arguments])
    Console(stderr=True, highlight=False, soft_wrap=True).print(
        f"\nseal: stopped. Finished shards are kept; go on with: {again}", markup=False
    )
