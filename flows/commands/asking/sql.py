"""`seal sql`: read-only SQL over every table and view of the store."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from flows.commands.options import STORE, StoreOption
from flows.views.formats import FORMATS, render, replacing, write_parquet, write_text
from seal_core.errors import InputError
from storage.sql.catalog import Catalog
from storage.sql.views import is_database_of_views, write_database
from storage.store import Store
from storage.tables.paths import check_run

MAX_TABLE_ROWS = 10_000


def sql(
    query: Annotated[str | None, typer.Argument(help="A SELECT, or the name of a view.")] = None,
    store: StoreOption = STORE,
    form: Annotated[
        str | None,
        typer.Option("--format", help="table, csv, json or parquet; else by the file's name."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; needed for parquet.")
    ] = None,
    database: Annotated[
        Path | None,
        typer.Option("--database", help="Write a DuckDB file with a view per table to here."),
    ] = None,
    list_views: Annotated[bool, typer.Option("--list", help="List tables and views.")] = False,
    run: Annotated[str | None, typer.Option(help="Of a view, only the rows of this run.")] = None,
) -> None:
    """Answers a query; it can neither write nor read outside the store."""
    form = form or _form_of(output)
    if form not in FORMATS:
        raise InputError(f"--format {form!r}: choose one of {', '.join(FORMATS)}")
    if form == "parquet" and output is None:
        raise InputError("--format parquet is not text: add --output FILE")
    alone = query or output or run or (database and list_views)
    if (database or list_views) and alone:
        one = "--database" if database else "--list"
        raise InputError(
            f"{one} stands alone: leave out the query, --output, --run and the other one"
        )
    opened = Store.open(store, create=False)
    for file in (output, database):
        if file is not None and opened.holds(file):
            raise InputError(
                f"{file} is inside the store, where only runs write: choose another file"
            )
    if database is not None:
        if not is_database_of_views(database):
            raise InputError(
                f"{database} is there and is no file that `seal sql --database` wrote: choose "
                "another name"
            )
        with replacing(database) as temporary:
            write_database(opened, temporary)
        return
    with Catalog(opened) as catalog:
        if list_views:
            for name, question in catalog.describe():
                typer.echo(f"{name:<28} {question}")
            return
        if query is None:
            raise InputError("give a query, or --list to see the tables and views")
        text = _as_query(query, catalog, run)
        if form == "table":
            _print(*_short_table(catalog, text), output)
        else:
            _stream(catalog, text, form, output)


def _form_of(output: Path | None) -> str:
    """The format that a file's name asks for."""
    suffix = output.suffix.removeprefix(".").lower() if output is not None else ""
    return suffix if suffix in FORMATS else "table"


def _short_table(catalog: Catalog, text: str) -> tuple[str, str | None]:
    """The first rows, and a word on that if there are more."""
    result = catalog.head(text, MAX_TABLE_ROWS + 1)
    if len(result.rows) <= MAX_TABLE_ROWS:
        return render(result, "table"), None
    shown = replace(result, rows=result.rows[:MAX_TABLE_ROWS])
    more = (
        "these are the first rows only: add LIMIT or WHERE, or take --format csv, json or parquet"
    )
    return render(shown, "table"), more


def _print(text: str, more: str | None, output: Path | None) -> None:
    if output is None:
        typer.echo(text)
    else:
        with replacing(output) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")
    if more:
        typer.echo(more, err=True)


def _stream(catalog: Catalog, text: str, form: str, output: Path | None) -> None:
    """Writes rows as they come, so that a result of millions needs little memory."""
    if output is None:
        with catalog.stream(text) as reader:
            write_text(reader, form, sys.stdout)
        return
    with replacing(output) as temporary, catalog.stream(text) as reader:
        if form == "parquet":
            write_parquet(reader, temporary)
        else:
            with temporary.open("w", encoding="utf-8") as file:
                write_text(reader, form, file)


def _as_query(text: str, catalog: Catalog, run: str | None) -> str:
    names = {name for name, _ in catalog.describe()}
    if run is not None and text not in names:
        raise InputError("--run is for the name of a view: put WHERE run = … into the query")
    where = "" if run is None else f" WHERE run = '{check_run(run)}'"
    return f'SELECT * FROM "{text}"{where}' if text in names else text
