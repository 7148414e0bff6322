"""A trainer of another package that trains something else than PEFT is found out."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from seal_core.engines import TrainJob
from seal_core.models.loading import load_model
from seal_core.probe.trainer_proof import check_trainer
from seal_core.training.batched_trainer import BatchedTrainer
from seal_core.training.peft_trainer import PeftTrainer
from tests.chat_models import save_chat_model

TARGETS = ("q_proj", "down_proj")


class Changed:
    """A trainer that is asked something else than it should be."""

    def __init__(self, path: str, change: Callable[[TrainJob], TrainJob]) -> None:
        self._trainer, self._change = PeftTrainer(load_model(path)), change

    def train(self, jobs: Any, out: Any, progress: Any = None) -> Any:
        return self._trainer.train([self._change(job) for job in jobs], out, progress)

    def close(self) -> None:
        self._trainer.close()


def settings(**changes: Any) -> Callable[[TrainJob], TrainJob]:
    return lambda job: replace(job, settings=replace(job.settings, **changes))


@pytest.mark.parametrize("fill", [False, True])
def test_sound_trainers_pass(model_path, fill) -> None:
    for trainer in (BatchedTrainer, PeftTrainer):
        loaded = load_model(model_path)
        assert check_trainer(trainer(loaded.twin()), loaded, TARGETS, fill) is None


def test_half_precision_passes(model_path) -> None:
    loaded = load_model(model_path, dtype="bfloat16")
    assert check_trainer(BatchedTrainer(loaded.twin()), loaded, TARGETS) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda job: replace(job, seed=job.seed + 1),
        lambda job: replace(job, rows=tuple(reversed(job.rows))),
        lambda job: replace(job, base_adapters=()),
        lambda job: replace(job, init_adapter=None),
        settings(lr=0.02),
        settings(schedule="constant"),
        settings(schedule="linear"),
        settings(warmup_steps=0),
        settings(weight_decay=0.0),
        settings(clip=0.0),
        settings(epochs=1),
        settings(batch_size=1),
        settings(max_length=64),
        settings(max_steps=None),
        settings(targets=("q_proj",)),
        lambda job: replace(job, settings=replace(job.settings, alpha=job.settings.alpha * 1.1)),
    ],
)
def test_one_that_trains_something_else_is_found_out(model_path, change) -> None:
    assert check_trainer(Changed(model_path, change), load_model(model_path), TARGETS)


@pytest.mark.parametrize("kind", ["chat", "is_open"])
def test_one_that_takes_rows_for_others_is_found_out(tmp_path, kind) -> None:
    path = save_chat_model(tmp_path / "model", "dated")

    def plain(job: TrainJob) -> TrainJob:
        return replace(job, rows=tuple(replace(row, **{kind: False}) for row in job.rows))

    for change, is_sound in ((lambda job: job, True), (plain, False)):
        found = check_trainer(Changed(path, change), load_model(path), TARGETS, chats=True)
        assert (found is None) == is_sound


class Lost(Changed):
    def train(self, jobs: Any, out: Any, progress: Any = None) -> Any:
        return super().train(jobs, out, progress)[1:]


class Failing(Changed):
    def train(self, jobs: Any, out: Any, progress: Any = None) -> Any:
        found = super().train(jobs, out, progress)
        return [replace(one, path=None, error="no memory") for one in found]


@pytest.mark.parametrize(
    ("trainer", "words"), [(Lost, "one result per job"), (Failing, "fails: no memory .*'plain'")]
)
def test_results_are_complete(model_path, trainer, words) -> None:
    loaded = load_model(model_path)
    found = check_trainer(trainer(model_path, lambda job: job), loaded, TARGETS)
    assert found is not None and re.search(words, found)
