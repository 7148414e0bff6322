"""What was found of a model: which way answers and trains it right; light, without torch."""

from __future__ import annotations

from dataclasses import dataclass

ANSWERS = {
    "batched": "in batches, each row with its own adapters",
    "plain": "one request at a time over generate() and PEFT",
}
TRAINING = {
    "packed": "many adapters at once, rows packed",
    "padded": "many adapters at once, rows padded",
    "plain": "one adapter after another over PEFT",
}


@dataclass(frozen=True, slots=True)
class Comparison:
    """One way of the product held against plain transformers and PEFT.

    Attributes:
        error: Relative L2 difference of logits, losses or gradients; None if it failed outright.
        limit: What rounding explains.
        fault: Why this way is not right for the model; None if it is.
    """

    name: str
    error: float | None
    limit: float
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a model is used.

    Attributes:
        generator: `batched`, or `plain`: one request at a time over `generate()` and PEFT.
        trainer: `packed` or `padded`: many adapters at once; `plain`: one after another.
        refused: Why the model cannot be used at all; None if it can.
    """

    generator: str
    trainer: str
    refused: str | None
    comparisons: tuple[Comparison, ...]

    def __str__(self) -> str:
        """In one line, for people."""
        if self.refused is not None:
            return f"refused: {self.refused}"
        speed = "fast" if self.is_fast else "right, but slow"
        return f"{speed}: answers {ANSWERS[self.generator]}; trains {TRAINING[self.trainer]}"

    @property
    def is_fast(self) -> bool:
        """Whether neither answers nor training fall back to the plain way."""
        return self.refused is None and "plain" not in (self.generator, self.trainer)


@dataclass(frozen=True, slots=True)
class ModelReport:
    """What `seal model check` tells of a model.

    Attributes:
        dtype, device: What it was tried in and on.
        chat_fault: Why its chat template cannot be used; None if it can.
        unused: Settings of its `generation_config.json` that answers do not follow, as
            `name = value`.
    """

    verdict: Verdict
    dtype: str
    device: str
    chat_fault: str | None
    unused: tuple[str, ...]
