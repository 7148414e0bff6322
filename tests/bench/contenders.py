"""Runs the project's own trainers and generator under a clock, and compares their adapters."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from safetensors.torch import load_file
from torch.nn import functional

from seal_core.engines import (
    GenerateRequest,
    Generator,
    LoraSettings,
    Progress,
    TrainedAdapter,
    Trainer,
    TrainJob,
)
from seal_core.models.loading import LoadedModel
from seal_core.models.logits import next_logits
from seal_core.models.text.tokens import EncodedRow
from seal_core.training import batched_trainer, peft_trainer
from seal_core.training.peft_trainer import PeftTrainer
from tests.bench.timing import Sample, measure

_FILL = 64
"""Rows are filled up to the next multiple of this many tokens."""


class Training:
    """A trainer that writes to a folder of its own and keeps what came of its last run."""

    def __init__(self, trainer: Trainer, folder: Path, device: torch.device) -> None:
        self._trainer = trainer
        self._folder = folder
        self._device = device
        self.results: list[TrainedAdapter] = []

    def run(self, jobs: Sequence[TrainJob]) -> Sample:
        """Trains all jobs; one that fails ends the benchmark.

        Raises:
            RuntimeError: says which job failed and why.
        """
        shutil.rmtree(self._folder, ignore_errors=True)
        self.results = []
        sample = measure(
            lambda: self.results.extend(self._trainer.train(jobs, self._folder)), self._device
        )
        for result in self.results:
            if result.error is not None:
                raise RuntimeError(f"{result.adapter_id}: {result.error}")
        return sample

    def warm_up(self, jobs: Sequence[TrainJob]) -> None:
        """Two steps of one or two jobs: allocations, thread pools, PEFT's wrapping."""
        self.run([replace(job, settings=_short(job.settings)) for job in jobs[:2]])

    def paths(self) -> list[str]:
        """Folders of the adapters of the last run."""
        return [result.path or "" for result in self.results]

    def close(self) -> None:
        """Frees the model and removes the adapters."""
        self._trainer.close()
        shutil.rmtree(self._folder, ignore_errors=True)


class FilledPeft(PeftTrainer):
    """The PEFT loop with rows filled up at their end, where no token looks: the same sums, in
    products of another shape."""

    def train(
        self, jobs: Sequence[TrainJob], out: Path, progress: Progress | None = None
    ) -> list[TrainedAdapter]:
        """As `PeftTrainer.train`."""
        with patch.object(peft_trainer, "row_loss", _filled_loss):
            return super().train(jobs, out, progress)


def _filled_loss(loaded: LoadedModel, row: EncodedRow) -> torch.Tensor:
    n_filled = _FILL - len(row.ids) % _FILL
    ids = torch.tensor([[*row.ids, *[loaded.pad_id] * n_filled]], device=loaded.device)
    logits = next_logits(loaded.model, ids, row.n_targets + 1 + n_filled)[0, : row.n_targets]
    return functional.cross_entropy(logits, ids[0, row.n_context : len(row.ids)], reduction="sum")


@contextlib.contextmanager
def losses_kept() -> Iterator[dict[str, list[float]]]:
    """Takes the losses of all steps, by adapter; a result has the means of two epochs only."""
    kept: dict[str, list[float]] = {}
    tell = peft_trainer.succeeded

    def keep(job: TrainJob, path: Path, rows: Any, steps: Any, losses: Any, seconds: float) -> Any:
        kept[job.adapter_id] = list(losses)
        return tell(job, path, rows, steps, losses, seconds)

    with (
        patch.object(peft_trainer, "succeeded", keep),
        patch.object(batched_trainer, "succeeded", keep),
    ):
        yield kept


def one_by_one(
    generator: Generator, requests: Sequence[GenerateRequest], device: torch.device
) -> Callable[[], Sample]:
    """Answers each request in a call of its own."""
    return lambda: measure(lambda: [answer(generator, [own]) for own in requests], device)


def all_at_once(
    generator: Generator, requests: Sequence[GenerateRequest], device: torch.device
) -> Callable[[], Sample]:
    """Answers all requests in one call."""
    return lambda: measure(lambda: answer(generator, requests), device)


def answer(generator: Generator, requests: Sequence[GenerateRequest]) -> list[str]:
    """The answers' texts.

    Raises:
        RuntimeError: A request failed, or ended before its limit, which would spoil the count.
    """
    texts = []
    for request, got in zip(requests, generator.generate(requests), strict=True):
        if got.text is None or got.n_tokens != request.max_tokens:
            raise RuntimeError(f"{request.request_id}: {got.n_tokens} tokens, {got.error}")
        texts.append(got.text)
    return texts


def compare(ours: TrainedAdapter, oracle: TrainedAdapter) -> dict[str, float]:
    """How far an adapter is from the oracle's.

    Returns:
        `distance`: L2 norm of the difference of all B, which start at zero, over the norm of
        the oracle's; `loss`: difference of the final losses over the oracle's.
    """
    one, two = (_flat_b(Path(result.path or "")) for result in (ours, oracle))
    first, second = ours.final_loss or 0.0, oracle.final_loss or 0.0
    return {
        "distance": float((one - two).norm() / two.norm()),
        "loss": abs(first - second) / second,
        "final_loss": second,
    }


def _flat_b(path: Path) -> torch.Tensor:
    weights = load_file(path / "adapter_model.safetensors")
    return torch.cat([weights[name].flatten() for name in sorted(weights) if "lora_B" in name])


def _short(settings: LoraSettings) -> LoraSettings:
    return replace(settings, max_steps=2)
