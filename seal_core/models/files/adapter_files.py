"""Reads and writes LoRA adapters as folders in PEFT's format."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from seal_core.engines import NEEDS_POLICY
from seal_core.errors import InputError

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
_PREFIX = "base_model.model."

_READ = frozenset({"peft_type", "lora_alpha", "alpha_pattern", "use_rslora", "bias"})
_READ_OFF_THE_WEIGHTS = frozenset(
    {
        *("r", "rank_pattern", "target_modules", "exclude_modules"),
        *("layers_to_transform", "layers_pattern"),
    }
)
_WITHOUT_EFFECT = frozenset(
    {
        *("task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision"),
        NEEDS_POLICY,
        *("inference_mode", "lora_dropout", "fan_in_fan_out", "eva_config"),
        *("megatron_core", "qalora_group_size"),  # Defaults of others, which are refused.
    }
)
_DEFAULT_ALPHA = 8
_PLAIN_STARTS = (True, False, None, "gaussian", "orthogonal", "eva")
"""Values of `init_lora_weights` that leave the base as it is; PiSSA, for one, changes it."""


@dataclass(frozen=True, slots=True)
class LoraPair:
    """The low-rank delta of one linear layer, `scale * b @ a`.

    Attributes:
        a: `[rank, in]`.
        b: `[out, rank]`.
    """

    a: torch.Tensor
    b: torch.Tensor
    scale: float


def read_adapter(path: str | Path) -> dict[str, LoraPair]:
    """The pairs of an adapter by the full name of the module in the base model.

    Raises:
        InputError: No readable adapter is there, or it is of a kind that is not plain LoRA.
    """
    folder = Path(path)
    config = _read_config(folder)
    try:
        tensors = load_file(folder / WEIGHTS_FILE)
    except (OSError, SafetensorError) as error:
        raise InputError(f"adapter {folder}: cannot read {WEIGHTS_FILE}: {error}") from error
    halves: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        module, _, half = key.removeprefix(_PREFIX).removesuffix(".weight").rpartition(".")
        if half not in ("lora_A", "lora_B"):
            raise InputError(f"adapter {folder} holds {key}: only LoRA on linear layers is read")
        halves.setdefault(module, {})[half] = tensor
    pairs = {}
    for module, half in halves.items():
        is_pair = len(half) == 2 and all(tensor.dim() == 2 for tensor in half.values())
        if not is_pair or half["lora_A"].shape[0] != half["lora_B"].shape[1]:
            raise InputError(f"adapter {folder}: A and B of {module} do not fit each other")
        try:
            scale = _scale(config, module, half["lora_A"].shape[0])
        except (TypeError, AttributeError, ZeroDivisionError, re.error) as error:
            raise InputError(
                f"adapter {folder}: lora_alpha or alpha_pattern in {CONFIG_FILE} cannot be used "
                f"({error}): save the adapter again"
            ) from error
        pairs[module] = LoraPair(half["lora_A"], half["lora_B"], scale)
    return pairs


def write_adapter(
    path: Path,
    weights: Mapping[str, tuple[torch.Tensor, torch.Tensor]],
    alpha: float,
    dropout: float,
    base_model: str,
    targets: Sequence[str],
    revision: str | None = None,
) -> None:
    """Writes a folder that PEFT and vLLM load; the same weights give the same bytes.

    The folder appears whole or not at all: it is written beside its place and renamed.

    Args:
        weights: `(A [rank, in], B [out, rank])` by module name, all of one rank.
        base_model: What is to be loaded below it.
        targets: Names that select the modules in `weights`, full or last parts.
        revision: Of a base model from the hub.
    """
    rank = next(iter(weights.values()))[0].shape[0]
    config = {
        "base_model_name_or_path": base_model,
        "bias": "none",
        "inference_mode": True,
        "lora_alpha": alpha,
        "lora_dropout": dropout,
        "peft_type": "LORA",
        "r": rank,
        "target_modules": sorted(targets),
        "task_type": "CAUSAL_LM",
    }
    if revision is not None:
        config["revision"] = revision
    tensors = {}
    for module, (a, b) in sorted(weights.items()):
        tensors[f"{_PREFIX}{module}.lora_A.weight"] = a.detach().cpu().contiguous()
        tensors[f"{_PREFIX}{module}.lora_B.weight"] = b.detach().cpu().contiguous()
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    (temporary / CONFIG_FILE).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    save_file(tensors, temporary / WEIGHTS_FILE, metadata={"format": "pt"})
    # safetensors writes for the user alone, and a server of another user may have to read it.
    shutil.copymode(temporary / CONFIG_FILE, temporary / WEIGHTS_FILE)
    if path.exists():
        shutil.rmtree(path)
    os.rename(temporary, path)


def adapter_stamp(path: str | Path) -> tuple[int, int]:
    """Size in bytes and modification time of an adapter's weights; zeros if there are none."""
    try:
        stat = (Path(path) / WEIGHTS_FILE).stat()
    except OSError:
        return 0, 0
    return stat.st_size, stat.st_mtime_ns


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / CONFIG_FILE).read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"adapter {folder}: cannot read {CONFIG_FILE}: {error}") from error
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise InputError(f"adapter {folder} is not a LoRA adapter in PEFT's format")
    if odd := _odd(config):
        raise InputError(
            f"adapter {folder} uses {', '.join(odd)}: only plain LoRA is computed; train it or "
            "save it as such"
        )
    return config


def _odd(config: Mapping[str, Any]) -> list[str]:
    """Settings that make an adapter something else; those of a later PEFT are taken for such."""
    known = _READ | _READ_OFF_THE_WEIGHTS | _WITHOUT_EFFECT | {"init_lora_weights"}
    odd = [name for name, value in config.items() if value and name not in known]
    if config.get("bias", "none") != "none":
        odd.append("bias")
    start = config.get("init_lora_weights", True)
    if start not in _PLAIN_STARTS:
        odd.append(f"init_lora_weights = {start!r}")
    return odd


def _scale(config: Mapping[str, Any], module: str, rank: int) -> float:
    """alpha / r of the module; alpha / sqrt(r) for rank-stabilised LoRA (arXiv 2312.03732)."""
    alpha = config.get("lora_alpha", _DEFAULT_ALPHA)
    for pattern, value in (config.get("alpha_pattern") or {}).items():
        if re.fullmatch(rf"(.*\.)?({pattern})", module):
            alpha = value
            break
    return alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank
