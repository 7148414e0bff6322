"""Lets a model prove itself: finds the fastest way that equals plain transformers and PEFT.

Everything is tried on the loaded model itself, on the device and in the precision of the run, so
no second copy of it is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import TypeVar

import torch

from seal_core.errors import InputError
from seal_core.generation.plain_generator import adapted
from seal_core.models.finer import HALF, fits_in_float32, in_float32
from seal_core.models.loading import LoadedModel
from seal_core.models.logits import next_logits
from seal_core.models.lora_layers import LinearLayers
from seal_core.models.rounding import MISSING, TOLERANCE, logits_error, logits_missing, spread
from seal_core.probe.batch_check import batched_logits, batched_scores
from seal_core.probe.layer_check import adapter_error, batched_deltas, plain_deltas
from seal_core.probe.probe_rows import (
    Answer,
    plain_answers,
    some_tokens,
    two_adapters,
    uncached_logits,
)
from seal_core.probe.training_check import (
    Gradients,
    batched_gradients,
    gradient_error,
    layer_error,
    plain_gradients,
    whole_missing,
)
from seal_core.probe.verdict import Comparison, Verdict
from seal_core.training.packing import can_pack

_FAILURES = (
    InputError,
    TypeError,
    ValueError,
    RuntimeError,
    KeyError,
    AttributeError,
    IndexError,
    NotImplementedError,
    AssertionError,
)
"""What models raise that cannot be run in some way."""

T = TypeVar("T")


def check_model(
    loaded: LoadedModel, targets: Sequence[str] = ("all-linear",), fill: bool = False
) -> Verdict:
    """Compares both ways of answering and the three of training with the plain libraries.

    Args:
        targets: What adapters will be trained on.
        fill: Whether training rows will be filled up with padding.

    Raises:
        InputError: A target names no layer of the model.
    """
    modules = LinearLayers(loaded.model).resolve(targets)
    finer = _finer_verdict(loaded, modules, fill)
    if finer is not None and finer.refused is not None:
        return replace(finer, refused=_damage(loaded) or finer.refused)
    check = _Check(loaded, modules, fill, finer)
    try:
        return check.verdict()
    except _Refused as refusal:
        reason = str(refusal)
    except torch.OutOfMemoryError:
        raise  # It says nothing about the model.
    except _FAILURES as error:
        reason = f"generate() and PEFT fail in this version of the libraries: {_named(error)}"
    reason = _damage(loaded) or reason
    return Verdict("refused", "refused", reason, tuple(check.comparisons))


def _finer_verdict(loaded: LoadedModel, modules: Sequence[str], fill: bool) -> Verdict | None:
    """On a model in half precision, what single precision shows of it; None if it cannot be tried.

    Rounding hides there what a model's code does wrong in a batch, and makes a sound router choose
    another expert.
    """
    if loaded.model.dtype not in HALF or not fits_in_float32(loaded.model):
        return None
    with in_float32(loaded.model):
        check = _Check(loaded, modules, fill)
        try:
            found = check.verdict()
        except _Refused as refusal:
            found = Verdict("refused", "refused", str(refusal), tuple(check.comparisons))
        except (torch.OutOfMemoryError, *_FAILURES):
            return None  # Some kernels know no single precision.
    comparisons = [replace(one, name=f"{one.name}, in float32") for one in found.comparisons]
    return replace(found, comparisons=tuple(comparisons))


class _Refused(Exception):
    """No way is right for the model."""


class _Check:
    """The comparisons of one model, from the plainest to the fastest."""

    def __init__(
        self,
        loaded: LoadedModel,
        modules: Sequence[str],
        fill: bool,
        finer: Verdict | None = None,
    ) -> None:
        self._loaded, self._modules, self._fill = loaded, modules, fill
        self._finer = finer
        self.comparisons = list(finer.comparisons) if finer else []

    def verdict(self) -> Verdict:
        self._are_finite([self._some_logits()])
        with two_adapters(self._loaded, self._modules) as paths:
            answers = plain_answers(self._loaded, paths)
            self._plain_is_sound(answers, paths)
            allowed = self._finer is None or self._finer.generator == "batched"
            batched = allowed and self._batches(answers)
        trainer = self._trainer()
        return Verdict("batched" if batched else "plain", trainer, None, tuple(self.comparisons))

    def _are_finite(self, found: Sequence[torch.Tensor]) -> None:
        if not all(bool(logits.isfinite().all()) for logits in found):
            raise _Refused(
                "its logits are not finite: its weights are damaged, or too large for its precision"
            )

    def _plain_is_sound(self, answers: Sequence[Answer], paths: Sequence[str]) -> None:
        """Answering must see the model that training sees, and a merged policy must be it too."""
        loaded = self._loaded
        self._are_finite([answer.logits for answer in answers])
        if not self._holds(
            "generate() against one pass over the text",
            lambda: [uncached_logits(loaded, answer) for answer in answers],
            lambda found: self._logits_error(found, [answer.logits for answer in answers]),
        ):
            raise _Refused(
                "generate() answers from other logits than one pass over the same text gives: the "
                "model looks ahead, or its cache is not right in this version of transformers"
            )
        if not self._holds(
            "adapter merged into the weights",
            lambda: self._merged(paths[0]),
            lambda found: self._logits_error([found], [self._beside(paths[0])]),
        ):
            raise _Refused("an adapter merged into its weights is another model than PEFT's")

    def _batches(self, answers: Sequence[Answer]) -> bool:
        loaded, modules = self._loaded, self._modules
        return (
            self._holds(
                "answers of a batch",
                lambda: batched_logits(loaded, answers),
                lambda found: self._logits_error(found, [answer.logits for answer in answers]),
            )
            and self._holds(
                "log-probabilities of a batch",
                lambda: batched_scores(loaded, answers),
                lambda found: _score_error(found, answers),
            )
            and (
                self._finer is not None
                or self._holds(
                    "adapters of a batch, layer by layer",
                    lambda: batched_deltas(loaded, modules, answers),
                    lambda found: adapter_error(found, plain_deltas(loaded, modules, answers)),
                    MISSING,
                )
            )
        )

    def _trainer(self) -> str:
        loaded, modules, fill = self._loaded, self._modules, self._fill
        expected = plain_gradients(loaded, modules, fill)
        if not all(bool(tensor.isfinite().all()) for tensor in expected.values()):
            raise _Refused("PEFT's losses or gradients are not finite")
        # Rows that are filled up are never packed.
        if not fill and self._packs() and self._trains("training, rows packed", True, expected):
            return "packed"
        allowed = self._finer is None or self._finer.trainer != "plain"
        if allowed and self._trains("training, rows padded", False, expected):
            return "padded"
        return "plain"

    def _trains(self, name: str, pack: bool, expected: Gradients) -> bool:
        work = cache(lambda: batched_gradients(self._loaded, self._modules, pack, self._fill))
        if self._finer is not None:
            return self._holds(name, work, lambda found: whole_missing(found, expected))
        return self._holds(
            name, work, lambda found: gradient_error(found, expected)
        ) and self._holds(
            f"{name}, layer by layer", work, lambda found: layer_error(found, expected), MISSING
        )

    def _packs(self) -> bool:
        if self._finer is not None:
            return self._finer.trainer == "packed"
        try:
            return can_pack(self._loaded)
        except torch.OutOfMemoryError:
            raise
        except _FAILURES:
            return False  # Not even a plain pass over its rows: padded ones are tried next.

    @torch.inference_mode()
    def _beside(self, path: str) -> torch.Tensor:
        with adapted(self._loaded, (path,)):
            return self._some_logits()

    @torch.inference_mode()
    def _merged(self, path: str) -> torch.Tensor:
        layers = LinearLayers(self._loaded.model)
        try:
            layers.merge((path,))
            return self._some_logits()
        finally:
            layers.merge(())

    @torch.inference_mode()
    def _some_logits(self) -> torch.Tensor:
        ids = torch.tensor([some_tokens(self._loaded, 9, 2)], device=self._loaded.device)
        return next_logits(self._loaded.model, ids, ids.shape[1])

    def _logits_error(
        self, found: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]
    ) -> float:
        measure = logits_error if self._finer is None else logits_missing
        return measure(torch.cat([*found]), torch.cat([*expected]))

    def _holds(
        self,
        name: str,
        work: Callable[[], T],
        measure: Callable[[T], float],
        limit: float | None = None,
    ) -> bool:
        """Whether what a way gives is as near as rounding explains; notes the comparison."""
        limit = limit or (MISSING if self._finer else TOLERANCE[self._loaded.model.dtype])
        try:
            error = measure(work())
        except torch.OutOfMemoryError:
            raise
        except _FAILURES as error:
            self.comparisons.append(Comparison(name, None, limit, _named(error)))
            return False
        fault = (
            None if error <= limit else f"differs by {error:.1e}, where rounding explains {limit:g}"
        )
        self.comparisons.append(Comparison(name, error, limit, fault))
        return fault is None


def _damage(loaded: LoadedModel) -> str | None:
    """Says which weights are not numbers, if any are: whatever fails then fails for them."""
    broken = [n for n, weight in loaded.model.named_parameters() if not weight.isfinite().all()]
    if not broken:
        return None
    more = f" and {len(broken) - 1} more" if len(broken) > 1 else ""
    return (
        f"its weights hold NaN or infinite numbers ({broken[0]}{more}): they are damaged, or too "
        "large for its precision"
    )


def _score_error(found: Sequence[float], answers: Sequence[Answer]) -> float:
    """The root mean square difference per token, as a share of the logits' spread."""
    squares = [
        ((score - answer.score) / len(answer.tokens)) ** 2
        for score, answer in zip(found, answers, strict=True)
    ]
    whole = spread(torch.cat([answer.logits for answer in answers]))
    # Where one token is certain at every step, nats are as good.
    return (sum(squares) / len(squares)) ** 0.5 / (whole or 1.0)


def _named(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
