"""`seal show`: one problem, self-edit or adapter, told in full."""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from typing import Annotated

import typer
from rich.console import Console

from flows.commands.options import STORE, JsonOption, StoreOption
from flows.views.prompt_view import print_prompts, view_prompts
from flows.views.showing import adapters_in, explain, print_explanation
from storage.sql.catalog import Catalog
from storage.store import Store


def show(
    item: Annotated[
        str, typer.Argument(metavar="ID", help="Id of a problem, edit, adapter or policy.")
    ],
    run: Annotated[str | None, typer.Option(help="Only this run.")] = None,
    prompt: Annotated[
        bool, typer.Option("--prompt", help="What the model reads, token by token.")
    ] = False,
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """Shows text, training rows, answers before and after, reward, kept or not and why.

    With --prompt, of a problem or an edit: the prompts and rows that its run makes of it, in the
    tokens of its model, whose weights are not loaded.
    """
    opened = Store.open(store, create=False)
    # What packages print is no part of it.
    with Catalog(opened) as catalog, redirect_stdout(sys.stderr):
        explanation = explain(catalog, item, run)
        found = view_prompts(opened, catalog, explanation) if prompt else {}
    if prompt:
        if as_json:
            typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
        else:
            print_prompts(found, Console(highlight=False, soft_wrap=True))
        return
    for adapter in adapters_in(explanation):
        adapter["has_weights"] = adapter["uri"] is not None and opened.files.exists(adapter["uri"])
    if as_json:
        typer.echo(json.dumps(explanation, indent=2, ensure_ascii=False))
    else:
        print_explanation(explanation, Console(highlight=False, soft_wrap=True))
