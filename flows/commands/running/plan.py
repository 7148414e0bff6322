"""`seal plan`: what a run would do, and why, before it does it."""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from dataclasses import asdict
from typing import Annotated

import typer

from flows.commands.options import JsonOption, RehashOption
from flows.loading import load_config, store_setting
from flows.terminal import table_console
from seal_core.domains.left_out import left_out_lines
from tasks.opening.preflight import preflight


def plan(
    config: Annotated[str, typer.Argument(help="TOML file of the experiment.")],
    name: Annotated[str | None, typer.Option(help="Name of the run.")] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting, as section.key=value; may be repeated."),
    ] = None,
    store: Annotated[str | None, typer.Option(help="The store.", envvar="SEAL_STORE")] = None,
    fork: Annotated[str | None, typer.Option(help="Plan a fork of this run.")] = None,
    rehash: RehashOption = False,
    as_json: JsonOption = False,
) -> None:
    """Shows by stage what is cached, what would run, and which field changed; runs nothing."""
    settings = list(overrides or [])
    if store is not None:
        settings.insert(0, store_setting(store))
    with redirect_stdout(sys.stderr):  # What packages print is no part of the plan.
        checked = preflight(load_config(config, settings), name, rehash)
        # Prefect, which the stages import, takes seconds; wrong input is answered before.
        from flows.planning import plan_run, print_plan  # noqa: PLC0415

        found = plan_run(checked, fork)
    left_out = left_out_lines(checked.problems.left_out)
    if as_json:
        advice = [asdict(item) for item in checked.advice]
        told = {**found.to_json(), "left_out": left_out, "advice": advice}
        typer.echo(json.dumps(told, indent=2))
    else:
        for line in (*left_out, *(f"advice: {item}" for item in checked.advice)):
            typer.echo(line)
        print_plan(found, table_console())
