"""Trains many LoRA adapters of one frozen model at once, each as if it were alone.

A *tick* is one forward and backward pass. It takes the next step of several adapters, chosen
so that their sequences have similar length; an adapter's own steps never change their order.
Each adapter has its own loss, clipping, AdamW, schedule, seed and end, so only rounding tells
its result from one trained alone by `PeftTrainer`. A finished adapter's place is taken by the
next job, so that short jobs do not wait for long ones.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from seal_core.engines.adapter_files import write_adapter
from seal_core.engines.base import Progress, TrainedAdapter, TrainJob
from seal_core.engines.loading import LoadedModel
from seal_core.engines.lora_layers import LinearLayers, Weights, is_finite
from seal_core.engines.lora_slots import LoraSlots, RowDropout, Tick
from seal_core.engines.peft_trainer import (
    IGNORED,
    encode_job,
    failed,
    padded,
    start_weights,
    succeeded,
)
from seal_core.engines.tokens import EncodedRow
from seal_core.engines.training_plan import Step, check_settings, plan_steps
from seal_core.errors import InputError

_SIMILAR = 1.25
"""Sequences of one tick are at most this much longer or shorter than its first."""

_STATE_BYTES = {"cpu": 2 << 30, "cuda": 48 << 30}
"""Memory for weights, gradients and optimizer states of the adapters in training."""


@dataclass(slots=True)
class Training:
    """A job that can start: everything known before its first step."""

    index: int
    job: TrainJob
    rows: list[EncodedRow]
    steps: list[Step]
    modules: tuple[str, ...]
    weights: Weights = field(default_factory=dict)


@dataclass(slots=True)
class Running:
    """A job in a slot.

    Attributes:
        left: Trained tokens still to come; the adapter with the most goes first.
        row: Its row of the bank, as the optimizer sees it.
    """

    training: Training
    slot: int
    row: nn.Parameter
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    start: float
    left: int
    losses: list[float] = field(default_factory=list)

    @property
    def step(self) -> Step:
        """The next step."""
        return self.training.steps[len(self.losses)]

    def next_rows(self) -> list[EncodedRow]:
        """The sequences of the next step."""
        return [self.training.rows[row] for row in self.step.rows]

    def width(self) -> int:
        """Tokens of the next step's longest sequence."""
        return max(len(row.ids) for row in self.next_rows())


class BatchedTrainer:
    """The fast Trainer; see `base.Trainer`.

    Args:
        max_batch_tokens: Rows times padded length of one tick; bounds memory.
        max_adapters: Adapters in training at once, memory permitting.
    """

    def __init__(
        self, loaded: LoadedModel, max_batch_tokens: int = 4096, max_adapters: int = 32
    ) -> None:
        if min(max_batch_tokens, max_adapters) < 1:
            raise InputError("max_batch_tokens and max_adapters must be positive")
        self._loaded = loaded
        self._layers = LinearLayers(loaded.model)
        self._max_batch_tokens = max_batch_tokens
        self._max_adapters = max_adapters

    def train(
        self, jobs: Sequence[TrainJob], out: Path, progress: Progress | None = None
    ) -> list[TrainedAdapter]:
        """Writes each adapter to `out / adapter_id`; one result per job, in their order."""
        results: dict[int, TrainedAdapter] = {}
        groups: dict[tuple[object, ...], list[Training]] = {}
        for index, job in enumerate(jobs):
            try:
                training = self._prepare(index, job)
            except InputError as error:
                results[index] = failed(job, str(error), 0.0)
                _report(progress)
                continue
            groups.setdefault((job.base_adapters, training.modules), []).append(training)
        # Groups of one policy follow one another, so that it is merged once.
        for _, group in sorted(groups.items(), key=lambda item: str(item[0])):
            for index, result in self._train_group(group, out):
                results[index] = result
                _report(progress)
        return [results[index] for index in range(len(jobs))]

    def close(self) -> None:
        """Frees the model; the trainer cannot be used afterwards."""
        del self._loaded, self._layers
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _prepare(self, index: int, job: TrainJob) -> Training:
        check_settings(job.settings)
        rows = encode_job(self._loaded, job)
        steps = plan_steps([row.n_targets for row in rows], job.settings, job.seed)
        modules = tuple(self._layers.resolve(job.settings.targets))
        training = Training(index, job, rows, steps, modules)
        if job.init_adapter is not None:
            training.weights = start_weights(self._layers, job, modules)
        return training

    def _train_group(
        self, group: Sequence[Training], out: Path
    ) -> Iterator[tuple[int, TrainedAdapter]]:
        """Trains jobs on the same frozen model with the same targets."""
        try:
            self._layers.merge(group[0].job.base_adapters)
        except InputError as error:
            for training in group:
                yield training.index, failed(training.job, str(error), 0.0)
            return
        rank = max(training.job.settings.rank for training in group)
        modules = group[0].modules
        slots = LoraSlots(
            self._loaded.model, modules, rank, self._n_slots(group, rank), self._precision()
        )
        try:
            yield from self._run(slots, group, out)
        finally:
            slots.remove()

    def _run(
        self, slots: LoraSlots, group: Sequence[Training], out: Path
    ) -> Iterator[tuple[int, TrainedAdapter]]:
        # The longest jobs first, so that none is left to run alone at the end.
        waiting = deque(sorted(group, key=lambda training: -_n_tokens(training.steps)))
        free = list(range(slots.n_slots))
        running: list[Running] = []
        while waiting or running:
            while free and waiting:
                running.append(self._start(slots, waiting.popleft(), free.pop()))
            for runner, error in self._tick(slots, choose(running, self._max_batch_tokens)):
                running.remove(runner)
                free.append(runner.slot)
                yield runner.training.index, self._finish(slots, runner, out, error)

    def _start(self, slots: LoraSlots, training: Training, slot: int) -> Running:
        job = training.job
        slots.write(slot, training.weights or start_weights(self._layers, job, training.modules))
        row = nn.Parameter(slots.row(slot))
        return Running(
            training,
            slot,
            row,
            # One fused call per adapter: its rows fit the cache of a CPU, and an adapter that has
            # nothing to do in a tick keeps its state untouched.
            torch.optim.AdamW([row], lr=0.0, weight_decay=job.settings.weight_decay, fused=True),
            torch.Generator().manual_seed(job.seed),
            time.perf_counter(),
            _n_tokens(training.steps),
        )

    def _tick(
        self, slots: LoraSlots, chosen: Sequence[Running]
    ) -> list[tuple[Running, str | None]]:
        """Takes one step of each adapter; returns those that are done, with their error."""
        gradients = slots.begin([runner.slot for runner in chosen], self._layout(chosen))
        try:
            losses = self._losses(chosen)
            losses.sum().backward()
        finally:
            slots.end()
        done: list[tuple[Running, str | None]] = []
        for place, (runner, loss) in enumerate(zip(chosen, losses.tolist(), strict=True)):
            step = runner.step
            runner.losses.append(loss)
            runner.left -= step.n_tokens
            if not math.isfinite(loss):
                # Its weights stay as they are; the others' rows know nothing of it.
                done.append((runner, f"the loss is {loss} at step {len(runner.losses)}"))
                continue
            _update(runner, gradients[place], step.lr)
            if len(runner.losses) == len(runner.training.steps):
                done.append((runner, None))
        return done

    def _layout(self, chosen: Sequence[Running]) -> Tick:
        owners, scales, dropout = [], [], []
        for place, runner in enumerate(chosen):
            settings = runner.training.job.settings
            for row in runner.next_rows():
                owners.append(place)
                scales.append(settings.alpha / settings.rank)
                dropout.append(RowDropout(settings.dropout, len(row.ids), runner.generator))
        device = self._loaded.device
        return Tick(
            None if owners == list(range(len(chosen))) else torch.tensor(owners, device=device),
            torch.tensor(scales, dtype=self._precision(), device=device)[:, None, None],
            tuple(dropout) if any(own.share for own in dropout) else (),
        )

    def _losses(self, chosen: Sequence[Running]) -> torch.Tensor:
        """Each adapter's mean loss over the target tokens of its own rows `[adapters]`."""
        rows = [row for runner in chosen for row in runner.next_rows()]
        owners = [place for place, runner in enumerate(chosen) for _ in runner.step.rows]
        ids, labels = padded(rows, self._loaded)
        logits = self._loaded.model(
            input_ids=ids, use_cache=False, logits_to_keep=labels.shape[1] + 1
        ).logits[:, :-1]
        logits = logits if logits.dtype == torch.float64 else logits.float()
        losses = functional.cross_entropy(
            logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="none"
        )
        sums = losses.unflatten(0, labels.shape).sum(dim=1)
        device = sums.device
        totals = sums.new_zeros(len(chosen)).index_add(0, torch.tensor(owners, device=device), sums)
        return totals / torch.tensor([runner.step.n_tokens for runner in chosen], device=device)

    def _finish(
        self, slots: LoraSlots, runner: Running, out: Path, error: str | None
    ) -> TrainedAdapter:
        training = runner.training
        job, settings = training.job, training.job.settings
        seconds = time.perf_counter() - runner.start
        weights = slots.read(runner.slot, settings.rank)
        if error is None and not is_finite(weights):
            error = "the weights are not finite after training: lower the rate"
        if error is not None:
            return failed(job, error, seconds)
        path = out / job.adapter_id
        names = self._layers.short_names(training.modules)
        write_adapter(path, weights, settings.alpha, settings.dropout, self._loaded.name, names)
        return succeeded(job, path, training.rows, training.steps, runner.losses, seconds)

    def _n_slots(self, group: Sequence[Training], rank: int) -> int:
        width = sum(sum(self._layers.shape(name)) for name in group[0].modules) * rank
        # Weights, gradients, and AdamW's two moments.
        n_bytes = 4 * width * self._precision().itemsize
        limit = _STATE_BYTES.get(self._loaded.device.type, _STATE_BYTES["cpu"])
        return max(1, min(len(group), self._max_adapters, limit // n_bytes))

    def _precision(self) -> torch.dtype:
        """Adapters are trained in float32 at least, as PEFT does."""
        return torch.promote_types(self._loaded.model.dtype, torch.float32)


def choose(running: Sequence[Running], max_batch_tokens: int) -> list[Running]:
    """The adapters of the next tick: the one with most left to do, and all that fit with it."""
    first = max(running, key=lambda runner: (runner.left, -runner.slot))
    width, n_rows = first.width(), len(first.step.rows)
    chosen = [first]
    others = [runner for runner in running if runner is not first]
    for runner in sorted(others, key=lambda r: (-r.left, r.slot)):
        own, longest = runner.width(), max(width, runner.width())
        if not first.width() / _SIMILAR <= own <= first.width() * _SIMILAR:
            continue
        if longest * (n_rows + len(runner.step.rows)) > max_batch_tokens:
            continue
        chosen.append(runner)
        width, n_rows = longest, n_rows + len(runner.step.rows)
    return chosen


def _update(runner: Running, gradient: torch.Tensor, lr: float) -> None:
    runner.row.grad = gradient
    clip = runner.training.job.settings.clip
    if clip > 0:
        nn.utils.clip_grad_norm_([runner.row], clip)
    runner.optimizer.param_groups[0]["lr"] = lr
    runner.optimizer.step()
    runner.row.grad = None


def _n_tokens(steps: Sequence[Step]) -> int:
    return sum(step.n_tokens for step in steps)


def _report(progress: Progress | None) -> None:
    if progress is not None:
        progress(1)
