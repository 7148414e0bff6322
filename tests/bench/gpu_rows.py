"""The rows of `make bench-gpu`: what each measures, and what it notes."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from seal_core.engines import LoraSettings, TrainedAdapter, Trainer
from seal_core.generation.transformers_generator import TransformersGenerator
from seal_core.models.loading import LoadedModel
from seal_core.training.batched_trainer import BatchedTrainer
from seal_core.training.peft_trainer import PeftTrainer
from tests.bench import edits, floor
from tests.bench.busy import busy_share
from tests.bench.contenders import Training, all_at_once, answer, compare, one_by_one
from tests.bench.gauges import Passes, held, peak, reset_peak
from tests.bench.plan import Budget, Row
from tests.bench.published import run_published
from tests.bench.records import Record, Records
from tests.bench.shapes import SMOLLM, TOY, Shape, build

KINDS = ("qv", "loops", "all-linear", "small", "busy")
"""Of rows, the most important first. `busy` is last, since the profiler leaves its hooks behind."""

ITEM_BYTES = 2
"""Of a bfloat16 weight."""

_WHOLE_SHARE = 0.3
"""A whole edit of the PEFT loop may take this share of the time that is left."""

_BUSY_EPOCHS = 3
"""Enough for set-up and saving to weigh little, and few enough kernels to keep."""


@dataclass(frozen=True, slots=True)
class Case:
    """What a row of batched training is about."""

    shape: Shape
    n: int
    settings: LoraSettings
    answered: bool = True


class GpuRows:
    """The rows over one model; each frees what it made.

    Args:
        args: Of the command, see `gpu.py`.
        loaded: The large model, on the device.
        folder: For adapters.
    """

    def __init__(
        self,
        args: argparse.Namespace,
        shape: Shape,
        loaded: LoadedModel,
        folder: Path,
        records: Records,
        budget: Budget,
    ) -> None:
        self._args, self._shape, self._loaded = args, shape, loaded
        self._folder, self._records, self._budget = folder, records, budget
        self._qv = LoraSettings(targets=floor.QV, epochs=args.epochs)
        self._first: TrainedAdapter | None = None

    def rows(self) -> list[Row]:
        """All that were asked for, in their order."""
        args, n = self._args, self._args.n[0]
        every = replace(self._qv, targets=floor.ALL_LINEAR)
        shape, n_small, n_steps = (TOY, 2, 4) if args.toy else (SMOLLM, 50, 24)
        small = Case(shape, n_small, replace(every, max_steps=n_steps), answered=False)

        def train(n: int, settings: LoraSettings) -> Callable[[Record], None]:
            return partial(self._train, Case(self._shape, n, settings))

        rows = [
            # Twice the edits take twice the time where arithmetic bounds it, else the same.
            *[Row(f"qv {m}", train(m, self._qv), (m / n + 1) / 2) for m in args.n],
            Row("loops", self._loops, 0.1, 25, held=True),
            Row(f"all-linear {n}", train(n, every), 2.0),
            Row(f"small {n_small}", partial(self._train, small), 0.3, 5, held=True),
            Row(f"busy {n}", self._busy, 0.4, 8, held=True),
        ]
        return [row for row in rows if row.name.split()[0] in args.only]

    def _train(self, case: Case, record: Record) -> None:
        """Trains all edits of a case at once, and answers questions to all of them."""
        lengths = edits.fixed(case.n, self._args.tokens)
        jobs = edits.jobs(lengths, case.settings)
        about = {"shape": case.shape.name, "n": case.n, "targets": "/".join(case.settings.targets)}
        self._records.note(record, **about, **_floor(case, lengths))
        loaded, others = self._loaded, 0.0
        if case.shape is not self._shape:
            others = held(loaded.device)
            loaded = build(case.shape, self._args.device, torch.bfloat16)
        own, device = loaded.twin(), loaded.device
        with closing(self._batched(own)) as batched:
            batched.warm_up(jobs)
            reset_peak(device)
            with Passes(own.model) as passes:
                seconds = batched.run(jobs).wall / case.n
            mean = passes.tokens / passes.n
            self._records.note(
                record, batched=seconds, memory=peak(device, others), tokens_per_pass=mean
            )
            if case.settings == self._qv:
                kept = self._folder / "first"
                shutil.copytree(batched.paths()[0], kept, dirs_exist_ok=True)
                self._first = replace(batched.results[0], path=str(kept))
            if case.answered:
                self._answer(loaded.twin(), batched.paths(), record)

    def _answer(self, loaded: LoadedModel, paths: Sequence[str], record: Record) -> None:
        with closing(TransformersGenerator(loaded)) as generator:
            answer(generator, edits.requests(paths[:2], 2, 1))
            requests = edits.requests(paths, self._args.answer_tokens)
            reset_peak(loaded.device)
            seconds = all_at_once(generator, requests, loaded.device)().wall / len(paths)
            self._records.note(record, answers=seconds, answers_memory=peak(loaded.device))

    def _loops(self, record: Record) -> None:
        """One edit of the PEFT loop, its questions one by one, and steps of the published one."""
        job = edits.jobs(edits.fixed(1, self._args.tokens), self._qv)[0]
        device = self._loaded.device
        with closing(self._trainer("peft", PeftTrainer(self._loaded.twin()))) as peft:
            peft.warm_up([job])
            epochs, seconds = self._peft_edit(peft)
            self._records.note(record, peft=seconds, peft_epochs=epochs)
            if epochs == self._args.epochs and self._first is not None:
                self._records.note(record, equal=compare(self._first, peft.results[0]))
            with closing(TransformersGenerator(self._loaded.twin())) as generator:
                answer(generator, edits.requests(peft.paths(), 2, 1))
                requests = edits.requests(peft.paths(), self._args.answer_tokens)
                alone = one_by_one(generator, requests, device)().wall
            self._records.note(record, answers_one_by_one=alone)
        args, plain = self._args, self._loaded.twin()
        run_published(plain, job, self._folder, args.padding, 2)
        cost = run_published(plain, job, self._folder, args.padding, args.published_steps)
        n_steps = round(args.rows * args.epochs)
        self._records.note(record, published=cost.of(1, n_steps).wall)

    def _peft_edit(self, peft: Training) -> tuple[int, float]:
        """Epochs that were run, and seconds of a whole edit, reckoned where time is short."""
        n_epochs = self._args.epochs

        def run(epochs: int) -> float:
            settings = replace(self._qv, epochs=epochs)
            return peft.run(edits.jobs(edits.fixed(1, self._args.tokens), settings)).wall

        one = run(1)
        if n_epochs == 1:
            return 1, one
        if n_epochs == 2 or one * n_epochs < _WHOLE_SHARE * self._budget.left():
            return n_epochs, run(n_epochs)
        return 2, one + (n_epochs - 1) * (run(2) - one)

    def _busy(self, record: Record) -> None:
        """The same training as the first row's, shorter and under the profiler."""
        n, epochs = self._args.n[0], min(_BUSY_EPOCHS, self._args.epochs)
        jobs = edits.jobs(edits.fixed(n, self._args.tokens), replace(self._qv, epochs=epochs))
        with closing(self._batched(self._loaded.twin())) as batched:
            batched.warm_up(jobs)
            share = busy_share(lambda: batched.run(jobs), self._loaded.device)
        self._records.note(record, of=f"qv {n}", busy=share, busy_epochs=epochs)

    def _batched(self, loaded: LoadedModel) -> Training:
        if loaded.device.type == "cuda":
            torch.cuda.empty_cache()  # The trainer's budget is what is free.
        args = self._args
        trainer = BatchedTrainer(loaded, args.max_batch_tokens, args.max_adapters)
        return self._trainer("batched", trainer)

    def _trainer(self, name: str, trainer: Trainer) -> Training:
        return Training(trainer, self._folder / name, self._loaded.device)


def _floor(case: Case, lengths: Sequence[edits.Lengths]) -> Record:
    """Steps and least work of training, per edit.

    An edit's steps follow one another, but those of different edits share a pass over the frozen
    weights: there are at least as many passes as the longest edit has steps.
    """
    settings, n = case.settings, len(lengths)
    steps = [settings.max_steps or settings.epochs * len(own) for own in lengths]
    works = [
        floor.training(case.shape, own, n_steps / len(own), settings.targets, settings.rank)
        for own, n_steps in zip(lengths, steps, strict=True)
    ]
    return {
        "steps": sum(steps) / n,
        "flops": sum(work.flops for work in works) / n,
        "state_bytes": sum(work.bytes for work in works) / n,
        "weight_bytes": floor.passes(case.shape, max(steps), ITEM_BYTES).bytes / n,
    }
