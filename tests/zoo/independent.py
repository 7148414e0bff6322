"""Compares the product's engines with plain transformers and plain PEFT, row by row.

This is the evidence behind the table of models, so nothing here comes from the probe that
chooses the engines: the references are `generate()` on one row at a time, and a training loop
written out by hand.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from seal_core.engines import (
    GenerateRequest,
    Generation,
    LoraSettings,
    ScoreRequest,
    TrainedAdapter,
    TrainJob,
)
from seal_core.models.loading import LoadedModel, load_model
from seal_core.types import TrainRow
from tests.zoo.references import (
    ALPHA,
    CLIP,
    LR,
    RANK,
    STEPS,
    CannotError,
    PlainAnswer,
    PlainAnswers,
    PlainTraining,
    Row,
    check_layers,
    save_adapter,
    train_plain,
)
from tests.zoo.vocabulary import EOS, FIRST, SIZE, text_of

PROMPT_LENGTHS = (3, 21, 9, 34, 5, 12, 9)
ANSWER_LENGTHS = (16, 4, 11, 16, 9, 2, 16)
ADAPTERS = ("a", None, "b", "b", None, "a", None)
"""Requests of one batch: unlike lengths, ends and adapters, longer than the models' windows."""


STOPS = (EOS, *range(10, 20))
"""Tokens that end an answer; in a random model the end token alone would be rare."""

_LOGPROB_TOLERANCE = 1e-3
"""Nats, over a whole answer; rounding in float32 stays a hundred times below."""

_TIE = 1e-4
_DELTA_TOLERANCE = 2e-3
"""Relative L2 of the difference between what two trainings changed."""


def _ids(length: int, seed: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(FIRST, SIZE, (length,), generator=generator).tolist()


ROWS: list[list[Row]] = [
    [(_ids(n, 100 * job + i), _ids(m, 100 * job + i + 50)) for i, (n, m) in enumerate(lengths)]
    for job, lengths in enumerate((((0, 4), (9, 14)), ((5, 13), (3, 7))))
]
"""Prompts and texts of two jobs; the two rows of a job make one step."""


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """What a comparison gave.

    Attributes:
        deviation: The largest one: nats of an answer, or relative L2 of a trained adapter.
        fault: What is not right, in one line; None if nothing is.
    """

    deviation: float
    fault: str | None = None


class Bench:
    """One model's folder with two random adapters, and what plain libraries make of them.

    Args:
        work: Folder for adapters; it may be used for one bench only.
        layers: Full names of those that the product trains.

    Raises:
        CannotError: Plain transformers and PEFT cannot do it.
    """

    def __init__(self, folder: Path, work: Path, layers: Sequence[str]) -> None:
        self._folder, self._work = folder, work
        check_layers(folder, layers)
        self._adapters = {name: work / name for name in "ab"}
        for seed, path in enumerate(self._adapters.values()):
            save_adapter(folder, path, layers, seed)
        self._prompts = [_ids(n, seed) for seed, n in enumerate(PROMPT_LENGTHS)]
        self._plain = self._answers()
        self._precision, self._trained_plain = self._trainings()

    def _answers(self) -> list[PlainAnswer]:
        plain = PlainAnswers(self._folder, self._adapters)
        return [
            plain.answer(prompt, adapter, limit, STOPS)
            for prompt, adapter, limit in zip(self._prompts, ADAPTERS, ANSWER_LENGTHS, strict=True)
        ]

    def _trainings(self) -> tuple[str, list[PlainTraining]]:
        """In double precision if the model's own code allows it.

        AdamW makes steps of full length of gradients that are nothing but rounding.
        """
        jobs = list(zip(self._adapters.values(), ROWS, strict=True))
        try:
            found = [train_plain(self._folder, path, rows, torch.float64) for path, rows in jobs]
        except CannotError:
            found = [train_plain(self._folder, path, rows, torch.float32) for path, rows in jobs]
            return "float32", found
        return "float64", found

    def load(self) -> LoadedModel:
        """The model as an engine of the product has it, with more tokens that end an answer."""
        loaded = load_model(str(self._folder), device="cpu", dtype="float32").twin()
        return dataclasses.replace(loaded, stop_ids=STOPS)

    def answers(self, generator: Any) -> Finding:
        """Compares the answers to all requests, in one call, with those of `generate()`."""
        requests = [
            GenerateRequest(str(i), text_of(prompt), self._stack(adapter), max_tokens=limit)
            for i, (prompt, adapter, limit) in enumerate(
                zip(self._prompts, ADAPTERS, ANSWER_LENGTHS, strict=True)
            )
        ]
        found = generator.generate(requests)
        refused = next((one.error for one in found if one.error), None)
        if refused:
            return Finding(math.inf, f"refused, after the check let it pass: {refused}")
        pairs = list(zip(found, self._plain, strict=True))
        sound = [(got, plain) for got, plain in pairs if plain.margin > _TIE]
        if len(sound) < len(pairs) // 2:
            return Finding(math.inf, "most answers hang on rounding: nothing can be told")
        deviation = max(abs((got.logprob or 0.0) - plain.logprob) for got, plain in sound)
        wrong = [_difference(got, plain) for got, plain in sound]
        return _finding(deviation, _LOGPROB_TOLERANCE, "answers", [w for w in wrong if w])

    def scores(self, generator: Any) -> Finding:
        """Compares log-probabilities of given completions with those of one forward pass."""
        texts = [(p[: len(p) // 2 + 1], p[len(p) // 2 + 1 :]) for p in self._prompts]
        requests = [
            ScoreRequest(str(i), text_of(prompt), text_of(completion), self._stack(adapter))
            for i, ((prompt, completion), adapter) in enumerate(zip(texts, ADAPTERS, strict=True))
        ]
        found = generator.score(requests)
        refused = next((one.error for one in found if one.error), None)
        if refused:
            return Finding(math.inf, f"refused, after the check let it pass: {refused}")
        plain = PlainAnswers(self._folder, self._adapters)
        expected = [
            plain.score(prompt, completion, adapter)
            for (prompt, completion), adapter in zip(texts, ADAPTERS, strict=True)
        ]
        deviation = max(abs(got.logprob - e) for got, e in zip(found, expected, strict=True))
        return _finding(deviation, _LOGPROB_TOLERANCE, "log-probabilities", [])

    def load_to_train(self) -> LoadedModel:
        """The same in the precision in which training is compared."""
        return load_model(str(self._folder), device="cpu", dtype=self._precision).twin()

    def training(self, trainer: Any) -> Finding:
        """Compares two trained adapters with those of a loop over plain PEFT."""
        settings = LoraSettings(
            rank=RANK,
            alpha=ALPHA,
            targets=("all-linear",),
            lr=LR,
            epochs=STEPS,
            batch_size=2,
            clip=CLIP,
        )
        jobs = [
            TrainJob(
                f"job-{name}",
                tuple(TrainRow(text_of(text), text_of(prompt)) for prompt, text in ROWS[i]),
                settings,
                seed=i,
                init_adapter=str(self._adapters[name]),
            )
            for i, name in enumerate("ab")
        ]
        found: list[TrainedAdapter] = trainer.train(jobs, self._work / type(trainer).__name__)
        refused = next((one.error for one in found if one.error), None)
        if refused:
            return Finding(math.inf, f"refused, after the check let it pass: {refused}")
        deviations = [
            self._deviation(got, self._adapters[name], self._trained_plain[i])
            for i, (got, name) in enumerate(zip(found, "ab", strict=True))
        ]
        return _finding(max(deviations), _DELTA_TOLERANCE, "trained adapters", [])

    def _deviation(self, got: TrainedAdapter, start: Path, plain: PlainTraining) -> float:
        """Relative L2 between what the product's training changed and what plain PEFT's did."""
        expected, losses = plain
        before = load_file(start / "adapter_model.safetensors")
        after = load_file(Path(got.path or "") / "adapter_model.safetensors")
        if set(after) != set(expected):
            return float("inf")
        wanted = _flat({name: t.double() - before[name].double() for name, t in expected.items()})
        changed = _flat({name: t.double() - before[name].double() for name, t in after.items()})
        loss = abs((got.first_loss or 0.0) - losses[0]) / losses[0]
        return max(loss, float((changed - wanted).norm() / wanted.norm()))

    def _stack(self, adapter: str | None) -> tuple[str, ...]:
        return () if adapter is None else (str(self._adapters[adapter]),)


def _difference(got: Generation, plain: PlainAnswer) -> str | None:
    ids = plain.ids[:-1] if plain.ids[-1] in STOPS else plain.ids
    expected = text_of([i for i in ids if i >= FIRST])
    # What ends an answer may stand in it if it is no special token.
    if got.text not in (expected, text_of([i for i in plain.ids if i >= FIRST])):
        return f"{got.text!r} instead of {expected!r}"
    if got.n_tokens != len(plain.ids):
        return f"{got.n_tokens} tokens instead of {len(plain.ids)}"
    return None


def _finding(deviation: float, tolerance: float, what: str, wrong: list[str]) -> Finding:
    if wrong:
        return Finding(deviation, f"{len(wrong)} {what} differ, the first: {wrong[0]}")
    # Written so that a deviation that is no number is wrong, too.
    if not deviation <= tolerance:
        return Finding(deviation, f"{what} deviate by {deviation:.2g}")
    return Finding(deviation)


def _flat(tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([tensors[name].flatten() for name in sorted(tensors)])
