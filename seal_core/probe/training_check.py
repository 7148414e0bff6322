"""Losses and gradients of two adapters on the same rows, by PEFT and by one batched tick."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import peft
import torch
from torch.nn import functional

from seal_core.models.loading import LoadedModel
from seal_core.models.logits import next_logits
from seal_core.models.lora_layers import LinearLayers
from seal_core.models.tokens import EncodedRow
from seal_core.probe.probe_rows import RANK, random_weights, some_tokens
from seal_core.training.lora_slots import LoraSlots
from seal_core.training.ticks import Share, TickRunner

_LENGTHS = ((3, 11), (7,))
"""Tokens of the rows of each adapter."""


def plain_gradients(loaded: LoadedModel, modules: Sequence[str]) -> list[torch.Tensor]:
    """Each adapter's loss `[1]` and gradient `[width]`, with PEFT's layers, row by row."""
    config = peft.LoraConfig(
        r=RANK, lora_alpha=RANK, target_modules=list(modules), task_type="CAUSAL_LM"
    )
    layers = LinearLayers(loaded.model)
    weights = [random_weights(layers, modules, seed) for seed in range(len(_LENGTHS))]
    wrapped: Any = peft.get_peft_model(loaded.model, config)
    wrapped.eval()
    try:
        found = []
        for own, rows in zip(weights, _rows(loaded), strict=True):
            parameters = []
            for name in sorted(modules):
                layer = loaded.model.get_submodule(name)
                pair = layer.lora_A["default"].weight, layer.lora_B["default"].weight
                for parameter, value in zip(pair, own[name], strict=True):
                    parameter.data.copy_(value)
                    parameter.grad = None
                parameters += pair
            loss = _loss(loaded, rows)
            loss.backward()
            grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
            found += [loss.detach()[None], torch.cat([grad.flatten() for grad in grads])]
        return found
    finally:
        wrapped.unload()


def batched_gradients(
    loaded: LoadedModel, modules: Sequence[str], pack: bool
) -> list[torch.Tensor]:
    """The same from one tick over both adapters.

    Args:
        pack: Lay the rows end to end; else in a rectangle. See `row_logits`.

    Raises:
        Exception: of many kinds, from within models that cannot be run so.
    """
    layers = LinearLayers(loaded.model)
    precision = torch.promote_types(loaded.model.dtype, torch.float32)
    slots = LoraSlots(loaded.model, modules, RANK, len(_LENGTHS), precision)
    try:
        shares = []
        for slot, rows in enumerate(_rows(loaded)):
            slots.write(slot, random_weights(layers, modules, slot))
            n_targets = sum(row.n_targets for row in rows)
            generator = torch.Generator().manual_seed(0)
            shares.append(Share(slot, rows, n_targets, 1.0, 0.0, generator))
        with TickRunner(loaded, slots, False, pack) as ticks:
            losses = ticks.run(shares)
        found = []
        for slot, loss in enumerate(losses):
            parts = [part.flatten() for pair in slots.gradients(slot).values() for part in pair]
            found += [torch.tensor([loss], dtype=torch.float64), torch.cat(parts)]
        return found
    finally:
        slots.remove()


def _rows(loaded: LoadedModel) -> list[list[EncodedRow]]:
    return [
        [EncodedRow(tuple(some_tokens(loaded, length, place)), 1) for length in lengths]
        for place, lengths in enumerate(_LENGTHS)
    ]


def _loss(loaded: LoadedModel, rows: Sequence[EncodedRow]) -> torch.Tensor:
    total: Any = 0.0
    for row in rows:
        ids = torch.tensor([row.ids], device=loaded.device)
        logits = next_logits(loaded.model, ids, ids.shape[1])[0, row.n_context - 1 : -1]
        total = total + functional.cross_entropy(logits, ids[0, row.n_context :], reduction="sum")
    return total / sum(row.n_targets for row in rows)
