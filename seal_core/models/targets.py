"""Whether adapters' targets are layers of a model, told without its weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import AutoModelForCausalLM

from seal_core.models.lora_layers import LinearLayers
from seal_core.models.text.tokenizers import load_config


def check_targets(path: str, targets: Sequence[str]) -> None:
    """Passes if the model has them, or cannot be built without its weights.

    Raises:
        InputError: A target selects nothing; says what the model has.
    """
    config = load_config(path)
    try:
        with torch.device("meta"):
            layers = LinearLayers(AutoModelForCausalLM.from_config(config))
    except (RuntimeError, NotImplementedError, ValueError, TypeError, AttributeError):
        return  # It is told when the model is loaded.
    layers.resolve(targets)
