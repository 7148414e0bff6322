"""`seal minilm`: the embedded default model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seal_core.errors import InputError
from seal_core.minilm import weights_path

app = typer.Typer(help="The small model that ships with the package.", no_args_is_help=True)


@app.command()
def path() -> None:
    """Prints the folder of the packaged weights."""
    typer.echo(weights_path())


@app.command()
def build(
    out: Annotated[Path, typer.Option("--out", "-o", help="New folder for the model.")],
    seed: Annotated[int, typer.Option(min=0, help="Seed of world, data and weights.")] = 0,
    tokens: Annotated[
        int | None, typer.Option(min=1, help="Training tokens; default is the shipped recipe's.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
) -> None:
    """Rebuilds the model from nothing: world, tokenizer, pretraining, gates, model card."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: exists and is not an empty folder; choose another --out")
    # torch takes seconds to import, and only this command needs it.
    from seal_core.minilm.build import build as build_model  # noqa: PLC0415

    build_model(out, seed=seed, tokens=tokens, threads=threads, report=typer.echo)
