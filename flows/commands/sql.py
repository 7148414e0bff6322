"""`seal sql`: read-only SQL over every table and view of the store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.options import STORE, StoreOption
from seal_core.errors import InputError
from storage.catalog import Catalog
from storage.formats import FORMATS, render, write_parquet
from storage.store import Store


def sql(
    query: Annotated[str | None, typer.Argument(help="A SELECT, or the name of a view.")] = None,
    store: StoreOption = STORE,
    form: Annotated[str, typer.Option("--format", help="table, csv, json or parquet.")] = "table",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; needed for parquet.")
    ] = None,
    list_views: Annotated[bool, typer.Option("--list", help="List tables and views.")] = False,
) -> None:
    """Answers a query; it can neither write nor read outside the store."""
    if form not in FORMATS:
        raise InputError(f"--format {form!r}: choose one of {', '.join(FORMATS)}")
    if form == "parquet" and output is None:
        raise InputError("--format parquet is not text: add --output FILE")
    with Catalog(Store.open(store, create=False)) as catalog:
        if list_views:
            for name, question in catalog.describe():
                typer.echo(f"{name:<28} {question}")
            return
        if query is None:
            raise InputError("give a query, or --list to see the tables and views")
        result = catalog.query(_as_query(query, catalog))
        if form == "parquet" and output is not None:
            write_parquet(result, output)
        elif output is not None:
            output.write_text(render(result, form) + "\n", encoding="utf-8")
        else:
            typer.echo(render(result, form))


def _as_query(text: str, catalog: Catalog) -> str:
    names = {name for name, _ in catalog.describe()}
    return f'SELECT * FROM "{text}"' if text in names else text
