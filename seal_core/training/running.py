"""Jobs in training: what is known before a job starts, where it stands, and which go on next."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from seal_core.engines import TrainJob
from seal_core.models.lora_layers import Weights
from seal_core.models.text.tokens import EncodedRow
from seal_core.training.slots.slot_step import SlotStep
from seal_core.training.ticks import Share
from seal_core.training.training_plan import Step


@dataclass(slots=True)
class Training:
    """A job that can start: everything known before its first step."""

    index: int
    job: TrainJob
    rows: list[EncodedRow]
    steps: list[Step]
    modules: tuple[str, ...]
    weights: Weights = field(default_factory=dict)

    @property
    def n_trained(self) -> int:
        """Tokens that carry loss, over all steps."""
        return sum(step.n_tokens for step in self.steps)

    def rows_of(self, step: Step) -> list[EncodedRow]:
        """A step's rows."""
        return [self.rows[row] for row in step.rows]


@dataclass(slots=True)
class Running:
    """A job in a slot.

    Attributes:
        left: Trained tokens still to come; the adapter with the most goes first.
        n_steps: Taken, or on their way.
        losses: Of the steps that were read back.
        error: Why it is frozen, or cannot be trained; None if it learns, as far as is known.
    """

    training: Training
    slot: int
    generator: torch.Generator
    start: float
    left: int
    n_steps: int = 0
    losses: list[float] = field(default_factory=list)
    error: str | None = None

    @property
    def step(self) -> Step:
        """The next step."""
        return self.training.steps[self.n_steps]

    @property
    def rows(self) -> list[EncodedRow]:
        """Rows of the next step."""
        return self.training.rows_of(self.step)

    def optimizer_step(self) -> SlotStep:
        """The next step, for the optimizer."""
        return SlotStep(self.slot, self.step.lr, self.training.job.settings.clip)

    def advance(self) -> bool:
        """Counts the next step as taken; whether it was the last one."""
        self.left -= self.step.n_tokens
        self.n_steps += 1
        return self.n_steps == len(self.training.steps)

    def read(self, loss: float, norm: float) -> None:
        """Notes what came of a step."""
        self.losses.append(loss)
        if self.error is not None:
            return
        for name, value in (("loss", loss), ("gradient", norm)):
            if not math.isfinite(value):
                self.error = f"the {name} is {value} at step {len(self.losses)}"
                return

    def share(self) -> Share:
        """The next step as a part of a tick."""
        settings = self.training.job.settings
        return Share(
            slot=self.slot,
            rows=self.rows,
            n_targets=self.step.n_tokens,
            scale=settings.alpha / settings.rank,
            dropout=settings.dropout,
            generator=self.generator,
        )


class StepReader:
    """Reads losses and norms back for all steps at once: on a GPU each reading waits for it."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Sequence[Running], torch.Tensor]] = []

    def add(self, runners: Sequence[Running], found: torch.Tensor) -> None:
        """A step of these adapters, with their losses and norms `[2, adapters]`."""
        self._waiting.append((runners, found))

    def all(self) -> None:
        """Notes what came of all steps since the last time."""
        if not self._waiting:
            return
        values = iter(torch.cat([found for _, found in self._waiting], dim=1).T.tolist())
        for runners, _ in self._waiting:
            for runner in runners:
                runner.read(*next(values))
        self._waiting.clear()


def choose(
    running: Sequence[Running], max_tokens: int, similar: float, pack: bool = True
) -> list[Running]:
    """The adapters of the next tick: the one with most left to do, and all that fit with it.

    Args:
        max_tokens: Of the tick, padding included.
        similar: Largest ratio of an adapter's tokens in the tick to the first one's, and of all
            tokens, those that fill adapters up to the widest included, to the tick's own.
        pack: Rows are packed; else each is padded to the longest.
    """
    chosen: list[Running] = []
    first_rows, n_rows, n_tokens, longest, widest = 0, 0, 0, 0, 0
    for runner in sorted(running, key=lambda runner: (-runner.left, runner.slot)):
        lengths = [len(row.ids) for row in runner.rows]
        if pack:
            own, total = sum(lengths), n_tokens + sum(lengths)
            first = first_rows or own
        else:
            wide = max(longest, *lengths)
            own, total = wide * len(lengths), wide * (n_rows + len(lengths))
            first = wide * (first_rows or len(lengths))
        most = max(widest, own)
        fits = total <= max_tokens and first / similar <= own <= first * similar
        # All are filled up to the widest, where they share one product.
        if chosen and not (fits and most * (len(chosen) + 1) <= similar * total):
            continue
        widest = most
        first_rows = first_rows or (own if pack else len(lengths))
        chosen.append(runner)
        n_rows, n_tokens, longest = n_rows + len(lengths), total, max(longest, *lengths)
    return chosen
