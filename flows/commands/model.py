"""`seal model`: what a model is worth in this pipeline, before a run relies on it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from flows.commands.options import JsonOption
from seal_core.config import EMBEDDED, ExecutionSection, LoraSection, ModelSection
from seal_core.minilm import weights_path
from seal_core.models.model_files import check_model_folder, model_place
from seal_core.probe.verdict import Verdict
from seal_core.process.process import EngineProcess
from seal_core.process.spec import EngineSpec

app = typer.Typer(help="Checks models before runs rely on them.", no_args_is_help=True)


@app.callback()
def _model() -> None:
    """Keeps `check` a subcommand while it is the only one."""


@app.command()
def check(
    model: Annotated[str, typer.Argument(help="Folder, hub id, or `minilm`.")],
    target: Annotated[
        list[str] | None, typer.Option(help="Layers that adapters are trained on; repeat it.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="As model.dtype.")] = "auto",
    device: Annotated[str, typer.Option(help="As execution.device.")] = "auto",
    as_json: JsonOption = False,
) -> None:
    """Compares answers and training with plain transformers and PEFT, on this machine."""
    path = str(weights_path()) if model == EMBEDDED else model_place(model)
    check_model_folder(path)
    spec = EngineSpec(
        model_path=path,
        device=ExecutionSection(device=device).device,
        dtype=ModelSection.model_validate({"dtype": dtype}).dtype,
        targets=tuple(target or LoraSection().targets),
    )
    with TemporaryDirectory() as folder:
        process = EngineProcess(spec, Path(folder) / "engine.log")
        try:
            verdict: Verdict = process.call("check", {})
        finally:
            process.close()
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(verdict), indent=2))
    else:
        _show(model, verdict)
    if verdict.refused:
        raise typer.Exit(1)


def _show(model: str, verdict: Verdict) -> None:
    typer.echo(f"{model}: {verdict}")
    for found in verdict.comparisons:
        share = "failed" if found.error is None else f"{found.error:.1e} of {found.limit:g}"
        typer.echo(f"  {share:<18} {found.name}")
        if found.fault:
            typer.echo(f"  {'':<18} {found.fault}")
