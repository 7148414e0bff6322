"""Times training on the CPU: the same edits through every contender, in turn."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch

from seal_core.engines import LoraSettings, TrainJob
from seal_core.training.batched_trainer import BatchedTrainer
from seal_core.training.peft_trainer import PeftTrainer
from tests.bench import edits, floor
from tests.bench.contenders import Training, compare
from tests.bench.published import Cost, run_published
from tests.bench.records import Record, Records, seconds
from tests.bench.shapes import Shape, build
from tests.bench.timing import Sample, interleaved

PADDINGS = (2048, 512)
EPOCHS = {4: 10, 16: 4, 64: 2}
"""Fewer epochs for more edits, to end within minutes; the paper's are 10. All contenders take
the same, and pay for set-up and saving per edit as in a full run."""


class TrainingBench:
    """Contenders of one shape and one choice of targets, each with a model of its own.

    The published-style loop takes part for q and v only, its own choice.
    """

    def __init__(
        self, args: argparse.Namespace, shape: Shape, targets: tuple[str, ...], folder: Path
    ) -> None:
        self._args, self._shape, self._targets, self._folder = args, shape, targets, folder
        device = torch.device("cpu")
        batched = BatchedTrainer(build(shape))
        self._peft = Training(PeftTrainer(build(shape)), folder / "peft", device)
        self._batched = Training(batched, folder / "batched", device)
        self._plain = build(shape)
        self._paddings = () if targets != floor.QV else (64,) if args.quick else PADDINGS
        self._costs: dict[int, list[Cost]] = {padding: [] for padding in self._paddings}
        self._equal: dict[int, Record] = {}

    def run(self, records: Records, numbers: Sequence[int]) -> None:
        """Adds a record for each number of edits."""
        records.tell(f"training, {self._shape.name}, {', '.join(self._targets)}")
        runs: dict[str, Callable[[], Sample]] = {
            f"published {padding}, one step": partial(self._run_published, padding)
            for padding in self._paddings
        }
        for n in numbers:
            runs[f"peft {n}"] = partial(self._peft.run, self._jobs(n))
            runs[f"batched {n}"] = partial(self._run_batched, n)
        for trainer in (self._peft, self._batched):
            trainer.warm_up(self._jobs(numbers[0]))
        samples = interleaved(runs, self._args.repeats, records.tell)
        for n in numbers:
            records.add(self._record(n, samples[f"peft {n}"], samples[f"batched {n}"]))
        self._peft.close()
        self._batched.close()

    def _jobs(self, n: int) -> list[TrainJob]:
        settings = LoraSettings(targets=self._targets, epochs=self._epochs(n))
        return edits.jobs(edits.published_like(n), settings)

    def _epochs(self, n: int) -> int:
        return self._args.epochs or EPOCHS.get(n, 1)

    def _run_published(self, padding: int) -> Sample:
        job = self._jobs(1)[0]
        cost = run_published(self._plain, job, self._folder, padding, self._args.published_steps)
        self._costs[padding].append(cost)
        return cost.step

    def _run_batched(self, n: int) -> Sample:
        sample = self._batched.run(self._jobs(n))
        # The PEFT loop trained the same edits just before.
        self._equal[n] = compare(self._batched.results[0], self._peft.results[0])
        return sample

    def _record(self, n: int, peft: Sequence[Sample], batched: Sequence[Sample]) -> Record:
        lengths, epochs = edits.published_like(n), self._epochs(n)
        n_steps = epochs * sum(len(own) for own in lengths)
        work = [floor.training(self._shape, own, epochs, self._targets, 32) for own in lengths]
        contenders = {
            f"published {padding}": [cost.of(n, n_steps) for cost in costs]
            for padding, costs in self._costs.items()
        }
        return {
            "section": "training",
            "shape": self._shape.name,
            "targets": list(self._targets),
            "n": n,
            "epochs": epochs,
            "steps": n_steps,
            "tokens": epochs * sum(map(sum, lengths)),
            "seconds": seconds({**contenders, "peft": peft, "batched": batched}),
            "flops": sum(own.flops for own in work),
            "bytes": sum(own.bytes for own in work),
            "equal": self._equal[n],
        }
