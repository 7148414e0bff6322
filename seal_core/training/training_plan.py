"""Plans every optimizer step of one training job before it starts: rows, order, learning rate.

Pure: it depends on the rows' lengths, the settings and the seed, so every trainer that follows
a plan takes the same steps.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from seal_core.engines import LoraSettings, TrainJob
from seal_core.errors import InputError
from seal_core.fingerprint import derive_seed


@dataclass(frozen=True, slots=True)
class Step:
    """One optimizer step.

    Attributes:
        rows: Places of the rows among the job's encoded rows, in order.
        epoch: 0-based pass over the rows that the step belongs to.
        n_tokens: Tokens of these rows that carry loss.
        lr: Learning rate of the step.
    """

    rows: tuple[int, ...]
    epoch: int
    n_tokens: int
    lr: float


def check_ids(jobs: Sequence[TrainJob]) -> None:
    """Checks that each job of a call has a folder of its own, which its id names.

    Raises:
        InputError: Two have the same id, or one is no name of a folder.
    """
    for job in jobs:
        if not re.fullmatch(r"[\w-][\w.-]*", job.adapter_id):
            raise InputError(
                f"adapter_id {job.adapter_id!r}: use letters, digits, '.', '_' or '-', and no dot "
                "at its start"
            )
    twice = [own for own, n in Counter(job.adapter_id for job in jobs).items() if n > 1]
    if twice:
        raise InputError(f"adapter_id {twice[0]!r} belongs to several jobs of one call")


def check_settings(settings: LoraSettings) -> None:
    """Refuses settings that no training run can follow.

    Raises:
        InputError: names the setting, its value and the bound.
    """
    for name in ("rank", "batch_size", "epochs", "max_length", "alpha"):
        if not getattr(settings, name) > 0:
            raise InputError(f"{name} is {getattr(settings, name)}: it must be positive")
    for name in ("max_steps", "max_train_tokens"):
        value = getattr(settings, name)
        if value is not None and value < 1:
            raise InputError(f"{name} is {value}: it must be positive, or absent")
    for name in ("lr", "clip", "weight_decay", "warmup_steps"):
        if not getattr(settings, name) >= 0:
            raise InputError(f"{name} is {getattr(settings, name)}: it must not be negative")
    if not 0 <= settings.dropout < 1:
        raise InputError(f"dropout is {settings.dropout}: it must be in [0, 1)")
    if settings.schedule not in ("linear", "constant"):
        raise InputError(f"schedule is {settings.schedule!r}: use 'linear' or 'constant'")
    if not settings.targets:
        raise InputError("targets is empty: name modules, or use ['all-linear']")


def plan_steps(target_counts: Sequence[int], settings: LoraSettings, seed: int) -> list[Step]:
    """All steps of a job, in order.

    Args:
        target_counts: Tokens that carry loss, by row.
        seed: The job's seed; the order of the rows derives from it alone.

    Raises:
        InputError: The token limit is below the first step's tokens.
    """
    steps: list[tuple[tuple[int, ...], int, int]] = []
    total = 0
    for rows, epoch in _batches(len(target_counts), settings, seed):
        n_tokens = sum(target_counts[row] for row in rows)
        if _is_over(len(steps), total + n_tokens, epoch, settings):
            break
        steps.append((rows, epoch, n_tokens))
        total += n_tokens
    if not steps:
        raise InputError(
            f"max_train_tokens is {settings.max_train_tokens}, less than the first step's tokens"
        )
    return [
        Step(rows, epoch, n_tokens, settings.lr * lr_factor(i, len(steps), settings))
        for i, (rows, epoch, n_tokens) in enumerate(steps)
    ]


def lr_factor(step: int, n_steps: int, settings: LoraSettings) -> float:
    """Share of the peak learning rate at a 0-based step; the schedules of transformers.

    The warm-up rises from 0, so its first step does not move the weights.
    """
    if step < settings.warmup_steps:
        return step / settings.warmup_steps
    if settings.schedule == "constant":
        return 1.0
    return (n_steps - step) / max(1, n_steps - settings.warmup_steps)


def epoch_loss(steps: Sequence[Step], losses: Sequence[float], epoch: int) -> float:
    """Mean loss per token over the steps of one epoch, nats."""
    pairs = [
        (loss, step.n_tokens)
        for step, loss in zip(steps, losses, strict=True)
        if step.epoch == epoch
    ]
    return sum(loss * n for loss, n in pairs) / sum(n for _, n in pairs)


def _batches(
    n_rows: int, settings: LoraSettings, seed: int
) -> Iterator[tuple[tuple[int, ...], int]]:
    """Endless epochs, each in its own order, cut into batches; the last one may be smaller."""
    generator = torch.Generator().manual_seed(derive_seed("row-order", seed))
    epoch = 0
    while True:
        order = torch.randperm(n_rows, generator=generator).tolist()
        for start in range(0, n_rows, settings.batch_size):
            yield tuple(order[start : start + settings.batch_size]), epoch
        epoch += 1


def _is_over(n_steps: int, n_tokens: int, epoch: int, settings: LoraSettings) -> bool:
    """Whether a further step, with that many tokens in all, is one too many."""
    if settings.max_steps is not None and n_steps >= settings.max_steps:
        return True
    if settings.max_train_tokens is not None and n_tokens > settings.max_train_tokens:
        return True
    unlimited = settings.max_steps is None and settings.max_train_tokens is None
    return unlimited and epoch >= settings.epochs
