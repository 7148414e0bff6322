"""Says in which precision a model is used, before it is loaded and without importing torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

from seal_core.errors import InputError
from seal_core.models.files.model_files import weight_files

PRECISIONS = ("float32", "bfloat16", "float16", "float64")
_SAFETENSORS = {"F32": "float32", "BF16": "bfloat16", "F16": "float16", "F64": "float64"}
_FLOATS = ("F", "BF")
_LENGTH = 8
"""A safetensors file begins with the length of its header, little-endian."""
_ASK_TORCH = "import torch; print(torch.cuda.is_available())"
_ASK_SECONDS = 120
_GPU_FILES = ("nvidia*", "nvmap", "dxg", "kfd")
"""In `/dev` on Linux: NVIDIA's cards, those inside a Jetson or behind Windows, and AMD's."""


def used_precision(path: str, dtype: str, device: str) -> str:
    """The precision that `auto` stands for on this machine, or the one that was chosen.

    It is decided once, enters the identity of all that the model does, and is what each engine
    is told. So a run cannot go on in another precision where there is another device.

    Args:
        dtype: `auto` is the checkpoint's own on a GPU, and float32 on a CPU, where half precision
            is slow.
        device: As `execution.device`.

    Raises:
        InputError: the checkpoint's own precision is not known.
    """
    if dtype != "auto":
        return dtype
    if device == "cpu" or (device == "auto" and not _has_gpu()):
        return "float32"
    return own_precision(path)


def own_precision(path: str) -> str:
    """The precision of a checkpoint: what its config says, else what its first weights have.

    Raises:
        InputError: it is none that models are computed in, such as an 8-bit type.
    """
    folder = Path(path)
    name = _of_config(folder / "config.json") or _of_weights(folder)
    if name not in PRECISIONS:
        raise InputError(
            f"the weights of {path} are in {name}, which is no precision to compute in: set "
            "model.dtype to float32, bfloat16 or float16"
        )
    return name


def _of_config(file: Path) -> str | None:
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        places = (config, config.get("text_config") or {})
        found = [place.get("dtype") or place.get("torch_dtype") for place in places]
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise InputError(f"{file} is no model's config ({error}): save the model again") from error
    return next((str(name).removeprefix("torch.") for name in found if name), None)


def _of_weights(folder: Path) -> str:
    """Type of the first weights that are no integers, in the order of the files."""
    for file in weight_files(folder):
        for weights in _header(file).values():
            name = str(weights.get("dtype", ""))
            if name.startswith(_FLOATS):
                return _SAFETENSORS.get(name, name)
    return "a type that is not known"


def _header(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(_LENGTH), "little")
            if length > file.stat().st_size:
                raise ValueError("it is cut short")
            return {k: v for k, v in json.loads(stream.read(length)).items() if "dtype" in v}
    except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
        raise InputError(f"{file} is not a safetensors file ({error}): copy it again") from error


@cache
def _has_gpu() -> bool:
    """Whether torch finds a GPU here; it is asked only where there may be one."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "" or sys.platform == "darwin":
        return False
    if sys.platform == "linux" and not any(
        next(Path("/dev").glob(pattern), None) for pattern in _GPU_FILES
    ):
        return False
    try:
        done = subprocess.run(
            [sys.executable, "-c", _ASK_TORCH],
            capture_output=True,
            text=True,
            timeout=_ASK_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise InputError(
            f"cannot ask torch for a GPU ({error}): set execution.device to cpu or cuda"
        ) from error
    return done.stdout.strip().endswith("True")
