"""`seal report`: a page of HTML about one or several runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.options import STORE, StoreOption
from flows.views.formats import replacing
from seal_core.errors import InputError
from seal_core.places import user_path
from storage.sql.catalog import Catalog
from storage.store import Store


def report(
    runs: Annotated[list[str], typer.Argument(metavar="RUN…", help="Names of runs.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")] = Path(
        "report.html"
    ),
    store: StoreOption = STORE,
) -> None:
    """Writes one page of HTML that needs no network: figures, tables, best and worst self-edits."""
    # It imports matplotlib, which no other command needs.
    from flows.report.page import report_page  # noqa: PLC0415

    opened = Store.open(store, create=False)
    file = user_path(output)
    if opened.holds(file):
        raise InputError(f"{file} is inside the store, where only runs write: choose another file")
    with Catalog(opened) as catalog:
        page = report_page(catalog, runs)
    with replacing(file) as temporary:
        temporary.write_text(page, encoding="utf-8")
    typer.echo(f"{file}: {len(page.encode()) / 1e6:.2f} MB")
