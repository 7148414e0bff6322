"""`seal doctor`: checks versions, device, store and Prefect, each with its fix."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console

from flows.commands.options import STORE, JsonOption, StoreOption
from flows.views.health import all_checks


def doctor(
    store: StoreOption = STORE,
    vllm: Annotated[str | None, typer.Option(help="URL of a vLLM server to ask.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Checks this machine; exits with 1 if something would stop a run."""
    checks = all_checks(store, vllm)
    if as_json:
        typer.echo(json.dumps([vars(check) for check in checks], indent=2))
    else:
        console = Console(highlight=False, soft_wrap=True)
        for check in checks:
            mark = {"ok": "ok  ", "warn": "note", "fail": "FAIL"}[check.state]
            console.print(f"{mark}  {check.name:<22} {check.found}", markup=False)
            if check.fix:
                console.print(f"      {'':<22} fix: {check.fix}", markup=False)
    if any(check.state == "fail" for check in checks):
        raise typer.Exit(1)
