"""`seal export`: a policy or self-edits as a folder that other libraries load."""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from flows.commands.options import STORE, JsonOption, StoreOption
from flows.run_models.exporting import export as write_export
from seal_core.places import user_path
from storage.store import Store


class ExportForm(StrEnum):
    """What is written."""

    peft = "peft"
    merged = "merged"


def export(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Name of the run.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="New folder.")],
    policy: Annotated[
        str | None, typer.Option(help="This policy; the default is the last one.")
    ] = None,
    edit: Annotated[
        list[str] | None,
        typer.Option(help="The model that learnt this self-edit. May be repeated: all added up."),
    ] = None,
    form: Annotated[
        ExportForm, typer.Option(help="An adapter in PEFT's format, or merged weights.")
    ] = ExportForm.peft,
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """Writes a policy, or self-edits with their policy, as a folder with a model card."""
    opened = Store.open(store, create=False)
    with redirect_stdout(sys.stderr):  # What packages print is no part of it.
        made = write_export(
            opened,
            run,
            user_path(out),
            policies=(policy,) if policy else (),
            edits=edit or (),
            form=form.value,
        )
    if as_json:
        typer.echo(json.dumps(made.to_json(), indent=2))
    else:
        how = f"rank {made.rank}" if made.rank else f"off by {made.lost or 0.0:.1%} by rounding"
        typer.echo(f"{made.path}: {' + '.join(made.models)} on {made.base}, {made.form}, {how}")
