"""Holds another package's trainer to `PeftTrainer` before its first adapter counts.

Both train the same few adapters; what they are made of, how many steps they took and what they
lost must agree up to rounding, which optimizers amplify.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from seal_core.engines import LoraSettings, TrainedAdapter, Trainer, TrainJob, results_fault
from seal_core.errors import InputError
from seal_core.models.files.adapter_files import LoraPair, read_adapter
from seal_core.models.loading import LoadedModel
from seal_core.models.lora_layers import LinearLayers
from seal_core.models.rounding import TOLERANCE
from seal_core.probe.probe_rows import RANK, two_adapters
from seal_core.training.peft_trainer import PeftTrainer
from seal_core.types import TrainRow

_ROWS = (
    TrainRow("The river runs past the old mill and down to the sea."),
    TrainRow(" The miller's sister does, since last spring.", "Q: Who keeps bees?\nA:"),
    TrainRow("In winter, snow lies on the hills for weeks; then", is_open=True),
)
_TURNS = (TrainRow(" The miller's sister.", "Who keeps bees?", chat=True),)
_AMPLIFIED = 10.0
"""AdamW's first steps follow the signs of gradients, of which rounding turns the slight ones."""
_WORST = 0.5
"""Limit of a delta's error, whatever the precision."""


def check_trainer(
    trainer: Trainer,
    loaded: LoadedModel,
    targets: Sequence[str],
    fill: bool = False,
    chats: bool = False,
) -> str | None:
    """What is wrong with a trainer; None if it trains as `PeftTrainer` does.

    Args:
        loaded: The model, for `PeftTrainer`; a twin of the trainer's own.
        fill: Whether training rows will be filled up with padding.
        chats: Whether they are conversations.

    Raises:
        InputError: A target names no layer, or the plain libraries themselves cannot train it.
    """
    modules = LinearLayers(loaded.model).resolve(targets)
    with two_adapters(loaded, modules) as adapters, TemporaryDirectory() as folder:
        jobs = _jobs(tuple(targets), adapters, fill)
        if chats:
            jobs.append(replace(jobs[0], adapter_id="conversation", rows=_TURNS))
        expected = PeftTrainer(loaded).train(jobs, Path(folder) / "plain")
        found = trainer.train(jobs, Path(folder) / "found")
        if fault := results_fault([job.adapter_id for job in jobs], found):
            return fault
        for job, one, other in zip(jobs, found, expected, strict=True):
            if other.path is None:
                raise InputError(f"the model cannot be trained by PEFT: {other.error}")
            if fault := _fault(one, other, loaded.model.dtype):
                return f"{fault} (the adapter {job.adapter_id!r} of its trial)"
    return None


def _jobs(targets: tuple[str, ...], adapters: Sequence[str], fill: bool) -> list[TrainJob]:
    """Adapters that differ in whatever a job may say, dropout aside."""
    base = LoraSettings(rank=RANK, alpha=2.0 * RANK, targets=targets, lr=1e-2, epochs=2, clip=0.01)
    other = LoraSettings(
        rank=2 * RANK,
        alpha=RANK,
        targets=targets,
        lr=3e-3,
        schedule="constant",
        warmup_steps=1,
        weight_decay=10.0,  # Less could not be told from rounding after four steps.
        batch_size=2,
        clip=0.0,
        max_length=9,
        pad_to_max_length=fill,
        max_steps=4,
    )
    further = LoraSettings(rank=RANK, alpha=RANK, targets=targets, lr=3e-3, epochs=1)
    return [
        TrainJob("plain", _ROWS, base, seed=1),
        TrainJob("other-settings", _ROWS, other, seed=2),
        TrainJob("on-policy", _ROWS[:1], base, seed=3, base_adapters=(adapters[0],)),
        TrainJob("of-adapter", _ROWS[1:], further, seed=4, init_adapter=adapters[1]),
    ]


def _fault(found: TrainedAdapter, expected: TrainedAdapter, dtype: torch.dtype) -> str | None:
    if found.path is None:
        return f"fails: {found.error}"
    for name in ("n_rows", "n_steps", "n_tokens"):
        one, other = getattr(found, name), getattr(expected, name)
        if one != other:
            return f"says {name} = {one}, where PEFT's is {other}"
    limit = TOLERANCE[dtype]
    first, plain = found.first_loss, expected.first_loss or 0.0
    if first is None or not abs(first - plain) <= limit * max(1.0, plain) * _AMPLIFIED:
        return f"has the loss {first} in its first epoch, where PEFT's is {plain:.4g}"
    error = _delta_error(found.path, expected.path or "")
    limit = min(limit * _AMPLIFIED, _WORST)
    if not error <= limit:
        return f"is {error:.1e} of its size from PEFT's, where rounding explains {limit:.1e}"
    return None


def _delta_error(found: str, expected: str) -> float:
    """Relative L2 difference of two adapters' deltas, all layers in one; inf for other layers."""
    own, plain = read_adapter(found), read_adapter(expected)
    if own.keys() != plain.keys():
        return float("inf")
    apart = sum(
        _square([own[name], replace(plain[name], scale=-plain[name].scale)]) for name in own
    )
    whole = sum(_square([pair]) for pair in plain.values())
    return (max(apart, 0.0) / whole) ** 0.5 if whole else float("inf")


def _square(pairs: Sequence[LoraPair]) -> float:
    """Of the Frobenius norm of the sum of deltas, none of which is made: a large model's are."""
    a = torch.cat([pair.a.double() for pair in pairs])
    b = torch.cat([pair.scale * pair.b.double() for pair in pairs], dim=1)
    return float(((b.T @ b) * (a @ a.T)).sum())
