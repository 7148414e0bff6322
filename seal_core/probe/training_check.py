"""Losses and gradients of two adapters on the same rows, by PEFT and by one batched tick."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from seal_core.engines import LoraSettings
from seal_core.models.loading import LoadedModel
from seal_core.models.lora_layers import LinearLayers
from seal_core.models.rounding import missing_share, relative_error
from seal_core.models.text.tokens import EncodedRow
from seal_core.probe.probe_rows import RANK, random_weights, some_tokens
from seal_core.training.peft_trainer import backward, peft_model
from seal_core.training.slots.lora_slots import LoraSlots
from seal_core.training.ticks import Share, TickRunner

_ROWS = (((3, 1), (11, 4)), ((7, 3),))
"""Tokens of the rows of each adapter, and how many of them are context."""

_SLIGHT = 0.01
"""A gradient counts as at least this share of its adapter's whole one."""
_LOSS = 5.0
"""Rounding moves a loss, a mean over many logits, by that much less than a gradient."""

Gradients = dict[str, torch.Tensor]
"""Each adapter's loss `[1]`, and the gradient of each layer's A and B."""


def plain_gradients(loaded: LoadedModel, modules: Sequence[str], fill: bool = False) -> Gradients:
    """As `PeftTrainer` computes them.

    Args:
        fill: Fill the rows up with padding, as `pad_to_max_length` does.
    """
    layers = LinearLayers(loaded.model)
    weights = [random_weights(layers, modules, seed) for seed in range(len(_ROWS))]
    wrapped = peft_model(loaded.model, LoraSettings(rank=RANK, alpha=RANK), modules)
    wrapped.eval()
    try:
        found = {}
        for slot, (own, rows) in enumerate(zip(weights, _rows(loaded, fill), strict=True)):
            parameters = {}
            for name in modules:
                layer = loaded.model.get_submodule(name)
                pair = layer.lora_A["default"].weight, layer.lora_B["default"].weight
                for half, parameter, value in zip("AB", pair, own[name], strict=True):
                    parameter.data.copy_(value)
                    parameter.grad = None
                    parameters[f"{slot}.{name}.{half}"] = parameter
            found[f"{slot}.loss"] = _number(backward(loaded, rows))
            for name, parameter in parameters.items():
                grad = parameter.grad
                found[name] = torch.zeros_like(parameter) if grad is None else grad.clone()
        return found
    finally:
        wrapped.unload()


def batched_gradients(
    loaded: LoadedModel, modules: Sequence[str], pack: bool, fill: bool = False
) -> Gradients:
    """By one tick over both adapters.

    Args:
        pack: Pack the rows; else pad them. See `row_logits`.
        fill: As in `plain_gradients`.

    Raises:
        Exception: of many kinds, from within models that cannot be run so.
    """
    layers = LinearLayers(loaded.model)
    precision = torch.promote_types(loaded.model.dtype, torch.float32)
    slots = LoraSlots(loaded.model, modules, RANK, len(_ROWS), precision)
    try:
        shares = []
        for slot, rows in enumerate(_rows(loaded, fill)):
            slots.write(slot, random_weights(layers, modules, slot))
            n_targets = sum(row.n_targets for row in rows)
            generator = torch.Generator().manual_seed(0)
            shares.append(Share(slot, rows, n_targets, 1.0, 0.0, generator))
        with TickRunner(loaded, slots, False, pack) as ticks:
            losses = ticks.run(shares)
        found = {}
        for slot, loss in enumerate(losses.tolist()):
            found[f"{slot}.loss"] = _number(loss)
            for name, pair in slots.gradients(slot).items():
                for half, gradient in zip("AB", pair, strict=True):
                    found[f"{slot}.{name}.{half}"] = gradient
        return found
    finally:
        slots.remove()


def gradient_error(found: Gradients, expected: Gradients) -> float:
    """The largest relative L2 difference of a loss, or of all of an adapter's gradient."""
    worst = 0.0
    for slot in range(len(_ROWS)):
        loss, names = f"{slot}.loss", _layers(expected, slot)
        worst = max(worst, _LOSS * relative_error(found[loss], expected[loss]))
        worst = max(worst, relative_error(_joined(found, names), _joined(expected, names)))
    return worst


def whole_missing(found: Gradients, expected: Gradients) -> float:
    """The largest `missing_share` of all of an adapter's gradient."""
    slots = (_layers(expected, slot) for slot in range(len(_ROWS)))
    return max(missing_share(_joined(found, own), _joined(expected, own)) for own in slots)


def layer_error(found: Gradients, expected: Gradients) -> float:
    """The largest `missing_share` of the gradient of an A or B."""
    worst = 0.0
    for slot in range(len(_ROWS)):
        names = _layers(expected, slot)
        least = _SLIGHT * float(_joined(expected, names).norm())
        for name in names:
            worst = max(worst, missing_share(found[name], expected[name], least))
    return worst


def _layers(gradients: Gradients, slot: int) -> list[str]:
    return [n for n in gradients if n.startswith(f"{slot}.") and n != f"{slot}.loss"]


def _joined(gradients: Gradients, names: Sequence[str]) -> torch.Tensor:
    return torch.cat([gradients[name].flatten().double() for name in names])


def _rows(loaded: LoadedModel, fill: bool) -> list[list[EncodedRow]]:
    found = []
    for place, rows in enumerate(_ROWS):
        tokens = [some_tokens(loaded, length, place) for length, _ in rows]
        contexts = [min(own, len(ids) - 1) for ids, (_, own) in zip(tokens, rows, strict=True)]
        found.append([EncodedRow(tuple(i), n) for i, n in zip(tokens, contexts, strict=True)])
    if not fill:
        return found
    longest = max(len(row.ids) for rows in found for row in rows)
    return [[row.padded(longest, loaded.pad_id) for row in rows] for rows in found]


def _number(value: float) -> torch.Tensor:
    return torch.tensor([value], dtype=torch.float64)
