"""Writes a model with adapters merged into its weights, reads it back and compares."""

from __future__ import annotations

import gc
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors import SafetensorError
from transformers import GenerationConfig

from seal_core.errors import InputError, StageError
from seal_core.generation.plain_generator import adapted, wrap
from seal_core.models.files.model_files import read_names, weight_names
from seal_core.models.loading import LoadedModel, load_model
from seal_core.models.logits import next_logits
from seal_core.models.text.tokens import encode_prompt

_TEXT = "The Amazon rainforest covers 5,500,000 square kilometres in nine nations.\n\nIn 1996 it"
_OF_THE_CHANGE = 0.1
"""Share of what the adapters change in the logits that rounding may change again."""
_ROUNDING = 1e-4
"""The same of the logits themselves, where the adapters hardly change any."""
_WRITTEN_ANEW = ("config.json", "model.safetensors.index.json")


def write_merged(source: Path, adapters: Sequence[str], dtype: str, out: Path) -> float:
    """Writes a Hugging Face folder: merged weights, and the base's tokenizer and settings.

    The folder appears whole or not at all.

    Args:
        source: Folder of the base model.
        adapters: Folders of the stack.
        dtype: Type of the weights.
        out: A path where nothing is.

    Returns:
        How far the logits of a text are from those of base and adapters, as a share of what the
        adapters change in them.

    Raises:
        InputError: An adapter does not fit the model, or too little of it survives the rounding.
        StageError: The weights could not be written.
    """
    loaded = load_model(str(source), device="cpu", dtype=dtype)
    ids = encode_prompt(loaded.codec, _TEXT)
    base = _logits(loaded, ids)
    with adapted(loaded, adapters):
        expected = _logits(loaded, ids)
    model = wrap(loaded, adapters).merge_and_unload(safe_merge=True)
    model.generation_config = GenerationConfig()  # The base's own may be refused; it is copied.
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as scratch:
        folder = Path(scratch) / out.name
        folder.mkdir()
        try:
            model.save_pretrained(folder)
        except (SafetensorError, OSError) as error:
            raise StageError(f"cannot write the weights to {out}: {error}") from error
        _copy_rest(source, folder)
        del loaded, model  # Two copies would be twice the memory.
        gc.collect()
        share = _lost(folder, dtype, ids, base, expected)
        os.replace(folder, out)
    return share


def _copy_rest(source: Path, folder: Path) -> None:
    (folder / "generation_config.json").unlink(missing_ok=True)
    weights = set(weight_names(source))
    for name in read_names(source):
        if name not in weights and name not in _WRITTEN_ANEW:
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(source / name, folder / name)
    for weights_file in folder.glob("*.safetensors"):
        # safetensors writes them for the user alone, whatever the umask.
        shutil.copymode(folder / "config.json", weights_file)


def _lost(
    folder: Path, dtype: str, ids: list[int], base: torch.Tensor, expected: torch.Tensor
) -> float:
    """Loads the folder as anybody would, and holds it against base and adapters."""
    again = load_model(str(folder), device="cpu", dtype=dtype)
    off = float((_logits(again, ids) - expected).norm())
    change, size = float((expected - base).norm()), float(base.norm())
    if not off <= max(_OF_THE_CHANGE * change, _ROUNDING * size):
        share = off / max(change, 1e-12)
        raise InputError(
            f"merged in {dtype}, the model's logits are off by {share:.0%} of what the adapters "
            "change: export it as an adapter"
        )
    return off / change if change else 0.0


@torch.inference_mode()
def _logits(loaded: LoadedModel, ids: list[int]) -> torch.Tensor:
    """`[tokens, vocabulary]`, float32, on the CPU."""
    rows = torch.tensor([ids], device=loaded.device)
    return next_logits(loaded.model, rows, len(ids))[0].float().cpu()
