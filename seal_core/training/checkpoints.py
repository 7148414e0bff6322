"""Keeps a frozen model in evaluation mode while adapters are trained, checkpoints included."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer


def can_checkpoint(model: Any) -> bool:
    """Whether the model's layers can compute their activations a second time."""
    return model.supports_gradient_checkpointing and any(
        isinstance(module, GradientCheckpointingLayer) for module in model.modules()
    )


def set_checkpoints(model: Any, enabled: bool) -> None:
    """Switches the activation checkpoints of layers that have them on or off, and nothing else.

    A layer heeds its checkpoint in training mode only, and in training mode its own dropout
    would set in: so it is in that mode only until its forward begins.
    """
    if not can_checkpoint(model):
        return
    if enabled:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    elif model.is_gradient_checkpointing:
        model.gradient_checkpointing_disable()
    for module in model.modules():
        if isinstance(module, GradientCheckpointingLayer):
            module.training = enabled
            if enabled:
                module.forward = _Quiet(module)
            elif isinstance(module.__dict__.get("forward"), _Quiet):
                del module.forward


class _Quiet:
    """A layer's forward, outside training mode."""

    def __init__(self, layer: nn.Module) -> None:
        self._layer = layer

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        layer = self._layer
        layer.training = False
        try:
            return type(layer).forward(layer, *args, **kwargs)
        finally:
            layer.training = True


def train_adapters_only(wrapped: Any, modules: list[nn.Module]) -> None:
    """Makes `wrapped.train()` put these modules in training mode, and the frozen model never.

    Trainers call it before each step; the model's own dropout would set in. Layers with
    checkpoints keep what `set_checkpoints` gave them.
    """
    checkpointed = [
        module
        for module in wrapped.modules()
        if isinstance(module, GradientCheckpointingLayer) and module.training
    ]

    def train(mode: bool = True) -> Any:
        for module in wrapped.modules():
            module.training = False
        for module in (*checkpointed, *modules):
            module.training = mode
            for part in module.modules() if module in modules else ():
                part.training = mode
        return wrapped

    wrapped.train = train
