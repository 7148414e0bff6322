"""Finds out about one type: what the product says of it, and whether that is so."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging

from seal_core.errors import InputError
from seal_core.generation.plain_generator import PlainGenerator
from seal_core.generation.transformers_generator import TransformersGenerator
from seal_core.models.loading import LoadedModel, load_model
from seal_core.models.lora_layers import ALL_LINEAR, LinearLayers
from seal_core.probe.model_check import check_model
from seal_core.probe.verdict import Verdict
from seal_core.training.batched_trainer import BatchedTrainer
from seal_core.training.peft_trainer import PeftTrainer
from tests.zoo.independent import Bench, Finding
from tests.zoo.recipe import build
from tests.zoo.references import CannotError
from tests.zoo.weights import UnfitError

UNBUILT, REFUSED, PLAIN, FAST = "unbuilt", "refused", "plain", "fast"
WRONG, TRACEBACK = "WRONG", "TRACEBACK"


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """A line of the table.

    Attributes:
        state: One of the names above; the last two are failures.
        answers, training: How the product does it; empty if it does not.
        why: One line, empty for a model that is fast.
        deviations: By comparison, what was measured against the plain libraries.
    """

    name: str
    state: str
    answers: str = ""
    training: str = ""
    why: str = ""
    deviations: dict[str, float] = dataclasses.field(default_factory=dict)


def examine(model_type: str) -> Row:
    """Builds the type, asks the product about it, and holds the product to its word."""
    torch.set_num_threads(1)  # Types are examined side by side.
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory(prefix="seal-zoo-") as folder:
        model, work = Path(folder) / "tiny", Path(folder) / "work"
        try:
            build(model_type, model)
        except UnfitError as error:
            return Row(model_type, UNBUILT, why=_one_line(error))
        try:
            loaded = load_model(str(model), device="cpu", dtype="float32")
            layers = LinearLayers(loaded.model).resolve((ALL_LINEAR,))
            verdict = check_model(loaded)
        except InputError as error:
            return Row(model_type, REFUSED, why=_one_line(error))
        if verdict.refused:
            return Row(model_type, REFUSED, why=_one_line(verdict.refused))
        return _held_to(model_type, verdict, lambda: Bench(model, work, layers))


def _held_to(model_type: str, verdict: Verdict, make_bench: Callable[[], Bench]) -> Row:
    """The row of a model that the product says it can use."""
    findings: dict[str, Finding] = {}
    try:
        bench = make_bench()
        findings["answers"] = bench.answers(_generator(verdict, bench.load()))
        findings["scores"] = bench.scores(_generator(verdict, bench.load()))
        if verdict.trainer != "plain":
            trainer = BatchedTrainer(bench.load_to_train(), pack=verdict.trainer == "packed")
            findings["training"] = bench.training(trainer)
        # Anyone may ask for the plain trainer.
        findings["plain training"] = bench.training(PeftTrainer(bench.load_to_train()))
    except CannotError as error:
        findings["reference"] = Finding(0.0, f"let pass, and yet {_one_line(error)}")
    faults = [f"{name}: {found.fault}" for name, found in findings.items() if found.fault]
    state = WRONG if faults else FAST if verdict.is_fast else PLAIN
    reasons = [f"{c.name}: {c.fault}" for c in verdict.comparisons if c.fault]
    return Row(
        model_type,
        state,
        verdict.generator,
        verdict.trainer,
        _one_line("; ".join(faults or reasons)),
        {name: found.deviation for name, found in findings.items()},
    )


def _generator(verdict: Verdict, loaded: LoadedModel) -> Any:
    if verdict.generator == "plain":
        return PlainGenerator(loaded)
    return TransformersGenerator(loaded)


def _one_line(error: object) -> str:
    return " ".join(str(error).split())
