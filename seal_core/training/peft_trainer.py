"""Trains one LoRA adapter after another over PEFT: the plain Trainer, and the others' oracle."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import peft
import torch
from torch import nn
from torch.nn import functional

from seal_core.engines import LoraSettings, Progress, TrainedAdapter, TrainJob
from seal_core.errors import InputError
from seal_core.models.files.adapter_files import write_adapter
from seal_core.models.loading import LoadedModel, check_known
from seal_core.models.logits import next_logits
from seal_core.models.lora_layers import LinearLayers, Weights, is_finite
from seal_core.models.text.tokens import EncodedRow, encode_rows
from seal_core.training.training_plan import (
    Step,
    check_ids,
    check_settings,
    epoch_loss,
    plan_steps,
)


class NonFiniteError(InputError):
    """A loss or a weight became NaN or infinite: the job's own failure, not the engine's."""


class PeftTrainer:
    """Trains jobs one at a time; see `engines.Trainer`.

    The model is wrapped once per adapter shape, and only the numbers in A and B are set anew
    for each job, since wrapping costs more than many a job's steps.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded = loaded
        self._layers = LinearLayers(loaded.model)
        self._shape: tuple[object, ...] | None = None
        self._wrapped: Any = None
        self._pairs: dict[str, tuple[nn.Parameter, nn.Parameter]] = {}

    def train(
        self, jobs: Sequence[TrainJob], out: Path, progress: Progress | None = None
    ) -> list[TrainedAdapter]:
        """Writes each adapter to `out / adapter_id`; one result per job, in their order."""
        check_ids(jobs)
        results: dict[int, TrainedAdapter] = {}
        # Jobs on the same policy follow one another, so that it is merged once.
        for index in sorted(range(len(jobs)), key=lambda i: jobs[i].base_adapters):
            results[index] = self._train_or_fail(jobs[index], out)
            if progress is not None:
                progress(1)
        return [results[index] for index in range(len(jobs))]

    def close(self) -> None:
        """Frees the model; the trainer cannot be used afterwards."""
        del self._loaded, self._layers, self._wrapped, self._pairs
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _train_or_fail(self, job: TrainJob, out: Path) -> TrainedAdapter:
        start = time.perf_counter()
        try:
            return self._train(job, out, start)
        except InputError as error:
            return failed(job, str(error), time.perf_counter() - start)

    def _train(self, job: TrainJob, out: Path, start: float) -> TrainedAdapter:
        settings = job.settings
        check_settings(settings)
        rows = encode_job(self._loaded, job)
        steps = plan_steps([row.n_targets for row in rows], settings, job.seed)
        modules = self._layers.resolve(settings.targets)
        self._wrap(settings, modules)
        # After wrapping: that may need the model's memory, and the merge survives it.
        self._layers.merge(job.base_adapters)
        self._set_weights(start_weights(self._layers, job, modules))
        with _own_randomness(job, self._loaded.device):
            losses = self._run(rows, steps, settings)
        weights = self._weights()
        if not is_finite(weights):
            raise NonFiniteError("the weights are not finite after training: lower the rate")
        path = out / job.adapter_id
        write_adapter(
            path,
            weights,
            settings.alpha,
            settings.dropout,
            self._loaded.base,
            self._layers.short_names(modules),
        )
        return succeeded(job, path, rows, steps, losses, time.perf_counter() - start)

    def _wrap(self, settings: LoraSettings, modules: Sequence[str]) -> None:
        shape = (settings.rank, settings.alpha, settings.dropout, tuple(modules))
        if shape == self._shape:
            return
        if self._wrapped is not None:
            self._wrapped.unload()
        self._wrapped = peft_model(self._loaded.model, settings, modules)
        # The frozen model is never in training mode; only the adapter's own dropout is.
        self._wrapped.eval()
        self._pairs = {}
        for name in modules:
            layer = self._loaded.model.get_submodule(name)
            layer.lora_dropout.train()
            self._pairs[name] = (layer.lora_A["default"].weight, layer.lora_B["default"].weight)
        self._shape = shape

    def _set_weights(self, weights: Weights) -> None:
        for name, (a, b) in weights.items():
            own_a, own_b = self._pairs[name]
            own_a.data.copy_(a)
            own_b.data.copy_(b)

    def _weights(self) -> Weights:
        return {name: (a.detach(), b.detach()) for name, (a, b) in self._pairs.items()}

    def _run(
        self, rows: Sequence[EncodedRow], steps: Sequence[Step], settings: LoraSettings
    ) -> list[float]:
        """Takes all steps; returns each step's mean loss per token."""
        parameters = [parameter for pair in self._pairs.values() for parameter in pair]
        optimizer = torch.optim.AdamW(
            parameters, lr=0.0, weight_decay=settings.weight_decay, fused=True
        )
        losses: list[float] = []
        for step in steps:
            optimizer.zero_grad(set_to_none=True)
            losses.append(backward(self._loaded, [rows[row] for row in step.rows]))
            if not math.isfinite(losses[-1]):
                raise NonFiniteError(f"the loss is {losses[-1]} at step {len(losses)}")
            if settings.clip > 0:
                nn.utils.clip_grad_norm_(parameters, settings.clip)
            optimizer.param_groups[0]["lr"] = step.lr
            optimizer.step()
        return losses


def encode_job(loaded: LoadedModel, job: TrainJob, weighted: bool = False) -> list[EncodedRow]:
    """The job's usable rows, cut to its row limit and the model's context, and padded if wished.

    Args:
        weighted: Rows may have other weights than 1.

    Raises:
        InputError: They may not and do, or none is usable.
    """
    if not weighted and any(row.weight != 1.0 for row in job.rows):
        raise InputError(f"{job.adapter_id}: rows of an adapter have no weights of their own")
    limit = job.settings.max_length
    if loaded.context is not None:
        limit = min(limit, loaded.context)
    rows = encode_rows(loaded.codec, job.rows, loaded.eos_id, limit)
    for row in rows:
        check_known(loaded, row.ids)
    return (
        [row.padded(limit, loaded.pad_id) for row in rows]
        if job.settings.pad_to_max_length
        else rows
    )


def start_weights(layers: LinearLayers, job: TrainJob, modules: Sequence[str]) -> Weights:
    """Where the job's A and B start: at its `init_adapter`, or fresh from its seed."""
    settings = job.settings
    if job.init_adapter is None:
        return layers.initial_weights(modules, settings.rank, job.seed)
    scale = settings.alpha / settings.rank
    return layers.weights_of(job.init_adapter, modules, settings.rank, scale)


def backward(loaded: LoadedModel, rows: Sequence[EncodedRow]) -> float:
    """Adds the gradients of the rows' loss to the parameters; returns it.

    The loss is the mean negative log-probability over all target tokens of the rows, nats. Rows
    are run alone, since not every model gives a row in company what it gives it alone.
    """
    n_targets, total = sum(row.n_targets for row in rows), 0.0
    for row in rows:
        loss = row_loss(loaded, row) / n_targets
        loss.backward()
        total += loss.item()
    return total


def row_loss(loaded: LoadedModel, row: EncodedRow) -> torch.Tensor:
    """Sum of the negative log-probabilities of a row's target tokens, nats."""
    ids = torch.tensor([row.ids], device=loaded.device)
    mask = None
    if row.n_pads:
        mask = torch.ones_like(ids)
        mask[:, -row.n_pads :] = 0
    logits = next_logits(loaded.model, ids, row.n_targets + 1, mask)[0, :-1]
    return functional.cross_entropy(logits, ids[0, row.n_context :], reduction="sum")


def succeeded(
    job: TrainJob,
    path: Path,
    rows: Sequence[EncodedRow],
    steps: Sequence[Step],
    losses: Sequence[float],
    seconds: float,
) -> TrainedAdapter:
    """The result of a job whose adapter is written."""
    return TrainedAdapter(
        adapter_id=job.adapter_id,
        path=str(path),
        n_rows=len(rows),
        n_steps=len(steps),
        n_tokens=sum(step.n_tokens for step in steps),
        first_loss=epoch_loss(steps, losses, 0),
        final_loss=epoch_loss(steps, losses, steps[-1].epoch),
        seconds=seconds,
    )


def failed(job: TrainJob, error: str, seconds: float) -> TrainedAdapter:
    """The result of a job that left no adapter."""
    return TrainedAdapter(job.adapter_id, None, len(job.rows), 0, 0, None, None, seconds, error)


@contextlib.contextmanager
def _own_randomness(job: TrainJob, device: torch.device) -> Iterator[None]:
    """Dropout draws from the job's seed, and leaves the process's random state as it was."""
    if job.settings.dropout == 0:
        yield
        return
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(job.seed)
        yield


def peft_model(model: Any, settings: LoraSettings, modules: Sequence[str]) -> Any:
    """The model with one adapter of the plain library on these modules."""
    config = peft.LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,  # pyright: ignore[reportArgumentType] (floats work)
        lora_dropout=settings.dropout,
        target_modules=list(modules),
        task_type="CAUSAL_LM",
    )
    return peft.get_peft_model(model, config)
