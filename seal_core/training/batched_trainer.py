"""Trains many LoRA adapters of one frozen model at once, each as if it were alone.

A *tick* is one forward and backward pass. It takes the next step of several adapters, their rows
packed or padded (see `row_logits`); an adapter's own steps never change their order. Each adapter
has its own loss, clipping, AdamW, schedule, seed and end, so only rounding tells its result
from one trained alone, and, dropout aside, from `PeftTrainer`'s. A finished adapter's place is
taken by the next job. An adapter that is no longer finite keeps its place to its end: the
others compute the same bits, as far as the device's kernels give the same bits twice; those of
attention's backward pass on a GPU may not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from seal_core.engines import Progress, TrainedAdapter, TrainJob
from seal_core.errors import EngineError, InputError
from seal_core.models.files.adapter_files import write_adapter
from seal_core.models.loading import LoadedModel
from seal_core.models.lora_layers import LinearLayers, is_finite
from seal_core.training.beside import Ahead, Behind, workers
from seal_core.training.memory_plan import (
    MemoryPlan,
    TokenBytes,
    adapter_bytes,
    default_budget,
    lora_token_bytes,
    plan_memory,
)
from seal_core.training.peft_trainer import encode_job, failed, start_weights, succeeded
from seal_core.training.row_logits import tick_tokens
from seal_core.training.running import Running, StepReader, Training, choose
from seal_core.training.slots.lora_slots import LoraSlots, wants_together
from seal_core.training.ticks import TickRunner
from seal_core.training.training_plan import check_ids, check_settings, plan_steps

_TICK_TOKENS = {False: 1024, True: 8192}
"""Tokens of one tick, padding included, by whether it runs on a GPU; a single step may have more,
and memory that is short makes it fewer."""

_ADAPTERS = {False: 64, True: 256}
"""Adapters in training at once, as far as memory allows, by the same."""

_AHEAD = 16
"""Adapters whose first weights are drawn before their turn, or that are still being written."""

_SIMILAR = 2.0
"""On a GPU, adapters of one tick have at most this many times the tokens of its first, since
their products are filled up to the same number."""


class BatchedTrainer:
    """The fast Trainer; see `engines.Trainer`.

    Args:
        max_batch_tokens: Tokens of one tick, padding included, unless a single step has more;
            None for what keeps the device busy, and a CPU's cache warm.
        max_adapters: Adapters in training at once; None for as many as keep the device busy.
        memory_bytes: Budget for adapters in training and activations, which bounds both;
            None for most of a GPU, or a share of the machine's memory on a CPU.
        pack: Pack rows; else pad them, see `row_logits`. Which of the two is right for a
            model, if any, is `model_check`'s to say. Rows that are filled up are padded.
        server_share, sharers: See `default_budget`, which holds without `memory_bytes`.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        max_batch_tokens: int | None = None,
        max_adapters: int | None = None,
        memory_bytes: int | None = None,
        pack: bool = True,
        server_share: float = 0.0,
        sharers: int = 1,
    ) -> None:
        on_gpu = loaded.device.type == "cuda"
        n_tokens = _TICK_TOKENS[on_gpu] if max_batch_tokens is None else max_batch_tokens
        n_adapters = _ADAPTERS[on_gpu] if max_adapters is None else max_adapters
        if min(n_tokens, n_adapters) < 1:
            raise InputError("max_batch_tokens and max_adapters must be positive")
        self._loaded = loaded
        self._pack = pack
        self._layers = LinearLayers(loaded.model)
        self._memory_bytes, self._sharing = memory_bytes, (server_share, sharers)
        self._max_batch_tokens = n_tokens
        self._max_adapters = n_adapters

    def train(
        self, jobs: Sequence[TrainJob], out: Path, progress: Progress | None = None
    ) -> list[TrainedAdapter]:
        """Writes each adapter to `out / adapter_id`; one result per job, in their order."""
        check_ids(jobs)
        results: dict[int, TrainedAdapter] = {}
        groups: dict[tuple[object, ...], list[Training]] = {}
        for index, job in enumerate(jobs):
            try:
                training = self._prepare(index, job)
            except InputError as error:
                results[index] = failed(job, str(error), 0.0)
                _report(progress)
                continue
            fills = job.settings.pad_to_max_length
            groups.setdefault((job.base_adapters, training.modules, fills), []).append(training)
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
        plan = self._plan(group, rank)
        left = {training.index: training for training in group}
        while left:
            is_full = False
            try:
                for index, result in self._attempt(list(left.values()), rank, plan, out):
                    del left[index]
                    yield index, result
            except torch.OutOfMemoryError as error:
                if plan.n_adapters == 1:
                    raise EngineError(
                        f"one adapter of rank {rank} does not fit the device: lower finetune.rank, "
                        "or leave it more memory"
                    ) from error
                plan = replace(plan, n_adapters=plan.n_adapters // 2)
                is_full = True
            if is_full:  # Not before: the error holds the bank that did not fit.
                torch.cuda.empty_cache()

    def _attempt(
        self, group: Sequence[Training], rank: int, plan: MemoryPlan, out: Path
    ) -> Iterator[tuple[int, TrainedAdapter]]:
        """Trains the jobs from their start.

        Raises:
            torch.OutOfMemoryError: Fewer adapters may fit.
        """
        model = self._loaded.model
        modules, precision = group[0].modules, self._precision()
        slots = LoraSlots(model, modules, rank, plan.n_adapters, precision)
        try:
            with (
                TickRunner(self._loaded, slots, plan.checkpoint, self._packs(group)) as ticks,
                workers(slots.together) as executor,
            ):
                yield from self._run(ticks, slots, group, plan.n_tokens, out, executor)
        finally:
            slots.remove()

    def _run(
        self,
        ticks: TickRunner,
        slots: LoraSlots,
        group: Sequence[Training],
        max_tokens: int,
        out: Path,
        executor: Executor,
    ) -> Iterator[tuple[int, TrainedAdapter]]:
        # The longest jobs first, so that none is left to run alone at the end.
        order = sorted(group, key=lambda training: -training.n_trained)
        waiting = Ahead(
            executor, partial(self._first_row, slots), order, _AHEAD if slots.together else 1
        )
        ended: Behind[int, TrainedAdapter] = Behind(executor)
        free = list(range(slots.n_slots))
        running: list[Running] = []
        read = StepReader()
        similar = _SIMILAR if slots.together else math.inf
        try:
            while waiting or running:
                while free and waiting:
                    running.append(_start(slots, *waiting.next(), free.pop()))
                chosen = choose(running, max_tokens, similar, ticks.pack)
                try:
                    losses = ticks.run([runner.share() for runner in chosen])
                except torch.OutOfMemoryError:
                    max_tokens = sum(tick_tokens([runner.rows for runner in chosen], ticks.pack))
                    if len(chosen) > 1:
                        max_tokens //= 2
                        continue
                    if ticks.checkpoint():
                        continue
                    through = [_too_large(chosen[0])]
                else:
                    found = slots.step([runner.optimizer_step() for runner in chosen], losses)
                    read.add(chosen, found)
                    through = [runner for runner in chosen if runner.advance()]
                if through:
                    read.all()
                for runner in through:
                    running.remove(runner)
                    free.append(runner.slot)
                    yield from ended.beyond(_AHEAD)
                    ended.submit(runner.training.index, self._finish(slots, runner, out))
                yield from ended.done()
        except torch.OutOfMemoryError:
            yield from ended.rest()  # They need no second start.
            raise
        yield from ended.rest()

    def _first_row(self, slots: LoraSlots, training: Training) -> torch.Tensor:
        """Where a job starts, as a slot takes it."""
        weights = training.weights
        return slots.to_row(weights or start_weights(self._layers, training.job, training.modules))

    def _finish(self, slots: LoraSlots, runner: Running, out: Path) -> Callable[[], TrainedAdapter]:
        """Takes an adapter out of its slot; the function writes it."""
        training, error = runner.training, runner.error
        job, settings = training.job, training.job.settings
        read = slots.fetch(runner.slot) if error is None else dict
        names = self._layers.short_names(training.modules)

        def write() -> TrainedAdapter:
            weights = read()
            seconds = time.perf_counter() - runner.start
            if error is not None:
                return failed(job, error, seconds)
            if not is_finite(weights):
                fault = "the weights are not finite after training: lower the rate"
                return failed(job, fault, seconds)
            path = out / job.adapter_id
            write_adapter(path, weights, settings.alpha, settings.dropout, self._loaded.base, names)
            return succeeded(job, path, training.rows, training.steps, runner.losses, seconds)

        return write

    def _plan(self, group: Sequence[Training], rank: int) -> MemoryPlan:
        shapes = [self._layers.shape(name) for name in group[0].modules]
        pack = self._packs(group)
        longest = max(sum(tick_tokens([t.rows_of(s)], pack)) for t in group for s in t.steps)
        precision, together = self._precision(), wants_together(self._loaded.device)
        lora = lora_token_bytes(shapes, rank, precision, _SIMILAR) if together else 0
        budget = self._memory_bytes
        if budget is None:  # Not before: the merged policy takes its share.
            budget = default_budget(self._loaded.device, *self._sharing)
        return plan_memory(
            budget,
            adapter_bytes(shapes, rank, precision, together),
            TokenBytes.of(self._loaded.model, lora),
            len(group),
            longest,
            self._max_adapters,
            self._max_batch_tokens,
        )

    def _packs(self, group: Sequence[Training]) -> bool:
        return self._pack and not group[0].job.settings.pad_to_max_length

    def _precision(self) -> torch.dtype:
        """Adapters are trained in float32 at least, as PEFT does."""
        return torch.promote_types(self._loaded.model.dtype, torch.float32)


def _report(progress: Progress | None) -> None:
    if progress is not None:
        progress(1)


def _start(slots: LoraSlots, training: Training, row: torch.Tensor, slot: int) -> Running:
    settings = training.job.settings
    slots.put(slot, row, settings.rank, settings.weight_decay)
    generator = torch.Generator().manual_seed(training.job.seed)
    return Running(training, slot, generator, time.perf_counter(), training.n_trained)


def _too_large(runner: Running) -> Running:
    """Ends a job whose single step does not fit, even with activations computed twice."""
    runner.error = (
        f"a step of {sum(len(row.ids) for row in runner.rows)} tokens does not fit the device: "
        "lower finetune.max_length or finetune.batch_size"
    )
    return runner
