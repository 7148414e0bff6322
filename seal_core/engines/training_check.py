"""Finds out whether a model's batched training gives each adapter PEFT's loss and gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import peft
import torch
from torch.nn import functional

from seal_core.engines.batch_check import TOLERANCE, relative_error
from seal_core.engines.loading import LoadedModel
from seal_core.engines.lora_layers import LinearLayers, Weights
from seal_core.engines.lora_slots import LoraSlots
from seal_core.engines.plain_generator import next_logits
from seal_core.engines.ticks import Share, TickRunner
from seal_core.engines.tokens import EncodedRow
from seal_core.errors import InputError

_RANK = 2
_LENGTHS = ((3, 11), (7,))
"""Tokens of the rows of each adapter."""


def can_train(loaded: LoadedModel, pack: bool) -> bool:
    """Whether a tick over two adapters on all linear layers equals PEFT, row by row.

    Args:
        pack: Lay the rows end to end; else in a rectangle. See `row_logits`.
    """
    layers = LinearLayers(loaded.model)
    try:
        modules = layers.resolve(("all-linear",))
    except InputError:
        return False
    weights = [_random_weights(layers, modules, seed) for seed in range(len(_LENGTHS))]
    n_tokens = loaded.model.get_input_embeddings().weight.shape[0]
    rows = [
        [
            EncodedRow(tuple((7 * i + 13 * length + place) % n_tokens for i in range(length)), 1)
            for length in lengths
        ]
        for place, lengths in enumerate(_LENGTHS)
    ]
    expected = _by_peft(loaded, modules, weights, rows)
    try:
        found = _by_ticks(loaded, modules, weights, rows, pack)
    except (InputError, TypeError, ValueError, RuntimeError, KeyError, IndexError):
        return False  # It cannot even be computed: one adapter after the other, then.
    limit = TOLERANCE[loaded.model.dtype]
    return all(relative_error(f, e) <= limit for f, e in zip(found, expected, strict=True))


def _random_weights(layers: LinearLayers, modules: Sequence[str], seed: int) -> Weights:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: (a, torch.randn(b.shape, generator=generator) / b.shape[0] ** 0.5)
        for name, (a, b) in layers.initial_weights(modules, _RANK, seed).items()
    }


def _by_ticks(
    loaded: LoadedModel,
    modules: Sequence[str],
    weights: Sequence[Weights],
    rows: Sequence[Sequence[EncodedRow]],
    pack: bool,
) -> list[torch.Tensor]:
    """Each adapter's loss `[1]` and gradient `[width]`."""
    precision = torch.promote_types(loaded.model.dtype, torch.float32)
    slots = LoraSlots(loaded.model, modules, _RANK, len(weights), precision)
    try:
        shares = []
        for slot, own in enumerate(weights):
            slots.write(slot, own)
            n_targets = sum(row.n_targets for row in rows[slot])
            generator = torch.Generator().manual_seed(0)
            shares.append(Share(slot, rows[slot], n_targets, 1.0, 0.0, generator))
        with TickRunner(loaded, slots, False, pack) as ticks:
            losses = ticks.run(shares)
        found = []
        for slot, loss in enumerate(losses):
            parts = [part.flatten() for pair in slots.gradients(slot).values() for part in pair]
            found += [torch.tensor([loss]), torch.cat(parts)]
        return found
    finally:
        slots.remove()


def _by_peft(
    loaded: LoadedModel,
    modules: Sequence[str],
    weights: Sequence[Weights],
    rows: Sequence[Sequence[EncodedRow]],
) -> list[torch.Tensor]:
    """The same with PEFT's layers and one row at a time."""
    config = peft.LoraConfig(
        r=_RANK, lora_alpha=_RANK, target_modules=list(modules), task_type="CAUSAL_LM"
    )
    wrapped: Any = peft.get_peft_model(loaded.model, config)
    wrapped.eval()
    try:
        found = []
        for own, own_rows in zip(weights, rows, strict=True):
            parameters = []
            for name in sorted(modules):
                layer = loaded.model.get_submodule(name)
                pair = layer.lora_A["default"].weight, layer.lora_B["default"].weight
                for parameter, value in zip(pair, own[name], strict=True):
                    parameter.data.copy_(value)
                    parameter.grad = None
                parameters += pair
            loss = _loss(loaded, own_rows)
            loss.backward()
            grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
            found += [loss.detach()[None].cpu(), torch.cat([grad.flatten() for grad in grads])]
        return found
    finally:
        wrapped.unload()


def _loss(loaded: LoadedModel, rows: Sequence[EncodedRow]) -> torch.Tensor:
    total: Any = 0.0
    for row in rows:
        ids = torch.tensor([row.ids], device=loaded.device)
        logits = next_logits(loaded.model, ids, ids.shape[1])[0, row.n_context - 1 : -1]
        total = total + functional.cross_entropy(logits, ids[0, row.n_context :], reduction="sum")
    return total / sum(row.n_targets for row in rows)
