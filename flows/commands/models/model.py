"""`seal model`: what a model is worth in this pipeline, and GGUFs made into model folders."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from flows.commands.options import JsonOption
from flows.loading import valid_config
from seal_core import __version__
from seal_core.config import Config
from seal_core.errors import InputError
from seal_core.models.files.gguf_place import check_conversion
from seal_core.models.files.model_digest import digest_model
from seal_core.models.files.model_place import find_model
from seal_core.places import user_path
from seal_core.probe.verdict import ModelReport
from seal_core.probe.verdict_files import todays_code
from seal_core.process.process import EngineProcess
from seal_core.process.spec import EngineSpec

app = typer.Typer(help="Checks and converts models for runs.", no_args_is_help=True)


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
    plain: dict[str, Any] = {"model": {"path": model, "dtype": dtype}}
    plain |= {"execution": {"device": device}}
    plain |= {"finetune": {"targets": target}} if target else {}
    config = valid_config(plain, "model check")
    known: dict[str, Any] = {"model": model, "targets": config.finetune.targets}
    known["versions"] = {"seal-pipeline": __version__, **todays_code()}
    try:
        path = find_model(model)
        if as_json:
            known["digest"] = digest_model(path).digest
        report = _try(path, config)
    except InputError as error:
        if not as_json:
            raise
        typer.echo(json.dumps({**known, "refused": str(error)}, indent=2))
        raise typer.Exit(2) from error
    if as_json:
        found = dataclasses.asdict(report)
        typer.echo(json.dumps({**known, **found.pop("verdict"), **found}, indent=2))
    else:
        _show(model, config, report)
    if report.verdict.refused:
        raise typer.Exit(1)


def _try(path: str, config: Config) -> ModelReport:
    spec = EngineSpec(
        model_path=path,
        device=config.execution.device,
        dtype=config.model.dtype,
        targets=config.finetune.targets,
    )
    with TemporaryDirectory() as folder:
        process = EngineProcess(spec, Path(folder) / "engine.log")
        try:
            return process.call("check", {})
        finally:
            process.close()


@app.command()
def convert(
    gguf: Annotated[Path, typer.Argument(help="GGUF file, or a folder that holds one.")],
    out: Annotated[Path, typer.Argument(help="New folder for the model.")],
    dtype: Annotated[
        str, typer.Option(help="Of the weights: float32 (exact), bfloat16 or float16.")
    ] = "float32",
) -> None:
    """Makes a Hugging Face folder of a GGUF, and checks that it is the same model."""
    check_conversion(user_path(gguf), user_path(out), dtype)
    os.environ["TQDM_DISABLE"] = "1"  # Bars of several libraries; tqdm reads it as it is imported.
    try:
        # torch takes seconds to import, and only this command needs it here.
        from seal_core.models.files.convert import convert as convert_model  # noqa: PLC0415
    except ImportError as error:
        raise InputError(
            f"this transformers cannot read GGUF ({error}): pip install 'seal-pipeline[gguf]'"
        ) from error
    file = convert_model(user_path(gguf), user_path(out), dtype)
    typer.echo(f"{out}: {file.n_weights:,} weights of {file.path.name} in {dtype}, read back equal")
    typer.echo(f"next: seal model check {out}")


def _show(model: str, config: Config, report: ModelReport) -> None:
    typer.echo(f"{model}: {report.verdict}")
    targets = ", ".join(config.finetune.targets)
    typer.echo(f"  {'tried':<18} in {report.dtype} on {report.device}, adapters on {targets}")
    chat = report.chat_fault or "rows.variant = 'instruct' can be used"
    typer.echo(f"  {'conversations':<18} {chat}")
    if report.unused:
        unused = f"{', '.join(report.unused)}: answers follow the run's own settings"
        typer.echo(f"  {'not used':<18} {unused}")
    for found in report.verdict.comparisons:
        share = "failed" if found.error is None else f"{found.error:.1e} of {found.limit:g}"
        typer.echo(f"  {share:<18} {found.name}")
        if found.fault:
            typer.echo(f"  {'':<18} {found.fault}")
