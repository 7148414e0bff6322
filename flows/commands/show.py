"""`seal show`: one problem, self-edit or adapter, told in full."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich.console import Console

from flows.commands.options import STORE, JsonOption, StoreOption
from flows.prompt_view import print_prompts, prompts_of
from flows.showing import adapters_in, explain, print_explanation
from storage.catalog import Catalog
from storage.store import Store


def show(
    item: Annotated[str, typer.Argument(metavar="ID", help="Id of a problem, edit or adapter.")],
    run: Annotated[str | None, typer.Option(help="Only this run.")] = None,
    store: StoreOption = STORE,
    prompt: Annotated[
        bool, typer.Option("--prompt", help="Of a problem: what the model is given, as tokens.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Shows text, training rows, answers before and after, reward, kept or not and why."""
    opened = Store.open(store, create=False)
    with Catalog(opened) as catalog:
        explanation = explain(catalog, item, run)
        views = prompts_of(catalog, explanation) if prompt else []
    if prompt:
        _print(views, as_json, print_prompts)
        return
    for adapter in adapters_in(explanation):
        adapter["has_weights"] = adapter["uri"] is not None and opened.files.exists(adapter["uri"])
    _print(explanation, as_json, print_explanation)


def _print(found: Any, as_json: bool, show: Callable[[Any, Console], None]) -> None:
    if as_json:
        typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        show(found, Console(highlight=False, soft_wrap=True))
