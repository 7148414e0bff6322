"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

STORE = "seal-store"

StoreOption = Annotated[
    str, typer.Option("--store", help="Folder or s3:// URL of the store.", envvar="SEAL_STORE")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
RehashOption = Annotated[
    bool,
    typer.Option("--rehash", help="Hash the model's files again, whatever is remembered."),
]
