"""The protocol of a `[trainer]` kind: it opens a Trainer for a model that is loaded."""

from __future__ import annotations

from typing import Protocol

from seal_core.engines import Trainer
from seal_core.models.loading import LoadedModel


class TrainerKind(Protocol):
    """A kind of `[trainer]`; its adapters must be those of `PeftTrainer`, up to rounding."""

    def open(self, loaded: LoadedModel, memory_bytes: int | None) -> Trainer:
        """A trainer of a model, which may change its modules, but not their frozen weights.

        Args:
            memory_bytes: `execution.memory_gb`, for the adapters in training and their activations.
        """
        ...
