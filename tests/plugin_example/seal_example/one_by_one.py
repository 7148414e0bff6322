"""A trainer: one adapter after another over PEFT, with a pause between them for other work."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from seal_core.engines import Progress, TrainedAdapter, Trainer, TrainJob
from seal_core.models.loading import LoadedModel
from seal_core.section import Section
from seal_core.training.peft_trainer import PeftTrainer


class OneByOne:
    """Implements `seal_core.training.trainer_kind.TrainerKind`."""

    class Options(Section):
        """The settings of `[trainer]` with this kind."""

        pause: float = 0.0

    def __init__(self, options: Options) -> None:
        self._pause = options.pause

    def open(self, loaded: LoadedModel, memory_bytes: int | None) -> Trainer:
        return Paused(PeftTrainer(loaded), self._pause)


class Paused:
    """Implements `seal_core.engines.Trainer`."""

    def __init__(self, trainer: Trainer, pause: float) -> None:
        self._trainer, self._pause = trainer, pause

    def train(
        self, jobs: Sequence[TrainJob], out: Path, progress: Progress | None = None
    ) -> list[TrainedAdapter]:
        found = []
        for job in jobs:
            found += self._trainer.train([job], out, progress)
            time.sleep(self._pause)
        return found

    def close(self) -> None:
        self._trainer.close()
