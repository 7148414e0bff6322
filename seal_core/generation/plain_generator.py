"""Answers requests one by one over `generate()` and PEFT: the plain Generator.

It answers what models and adapters of any kind answer in the libraries themselves, for models
whose batches cannot be trusted, and it is the other generator's oracle.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import peft
import torch
from transformers import GenerationConfig, LogitsProcessor, StoppingCriteria

from seal_core.engines import (
    NEEDS_POLICY,
    GenerateRequest,
    Generation,
    Progress,
    Scored,
    ScoreRequest,
)
from seal_core.errors import InputError
from seal_core.generation.decoding import DecodeRow
from seal_core.generation.request_rows import decode_row, generation, score_text, scored
from seal_core.generation.requests import failed_generation as failed
from seal_core.generation.sampling import Sampler
from seal_core.generation.stopping import StopFinder
from seal_core.generation.streaming import Telling
from seal_core.models.files.adapter_files import read_adapter
from seal_core.models.loading import LoadedModel
from seal_core.models.logits import next_logits
from seal_core.models.lora_layers import is_finite
from seal_core.models.module_state import clearing_state


class PlainGenerator:
    """See `engines.Generator`.

    Args:
        hear: Called with the pieces of each answer's text while it is generated.
    """

    def __init__(self, loaded: LoadedModel, hear: Callable[[str], object] | None = None) -> None:
        self._loaded = loaded
        self._hear = hear
        self._finder = StopFinder(loaded.tokenizer)

    def generate(
        self, requests: Sequence[GenerateRequest], progress: Progress | None = None
    ) -> list[Generation]:
        """One result per request, in the order of the requests."""
        results: dict[int, Generation] = {}
        for paths, indices in _by_adapters(requests):
            try:
                with adapted(self._loaded, paths):
                    for index in indices:
                        results[index] = self._answer(index, requests[index])
                        _report(progress)
            except InputError as error:
                for index in [i for i in indices if i not in results]:
                    results[index] = failed(requests[index], str(error))
                    _report(progress)
        return [results[index] for index in range(len(requests))]

    def score(
        self, requests: Sequence[ScoreRequest], progress: Progress | None = None
    ) -> list[Scored]:
        """One result per request, in the order of the requests."""
        results: dict[int, Scored] = {}
        for paths, indices in _by_adapters(requests):
            try:
                with adapted(self._loaded, paths):
                    for index in indices:
                        results[index] = self._score(requests[index])
                        _report(progress)
            except InputError as error:
                for index in [i for i in indices if i not in results]:
                    results[index] = Scored(requests[index].request_id, None, 0, str(error))
                    _report(progress)
        return [results[index] for index in range(len(requests))]

    def close(self) -> None:
        """Frees the model; the generator cannot be used afterwards."""
        del self._loaded, self._finder
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _answer(self, index: int, request: GenerateRequest) -> Generation:
        try:
            row = decode_row(self._loaded, index, request)
        except InputError as error:
            return failed(request, str(error))
        chooser = _Chooser(row, self._loaded.device)
        telling = None
        if self._hear is not None:
            telling = Telling(row, self._loaded.codec, self._finder, self._hear)
        run_generate(self._loaded, row, [chooser], [_Ends(row, self._finder, telling)])
        made = generation(self._loaded, row, self._finder)
        if telling is not None:
            telling.end(made.text)
        return made

    @torch.inference_mode()
    def _score(self, request: ScoreRequest) -> Scored:
        try:
            ids, n_scored = score_text(self._loaded, request)
        except InputError as error:
            return Scored(request.request_id, None, 0, str(error))
        device = self._loaded.device
        rows = torch.tensor([ids], device=device)
        logits = next_logits(self._loaded.model, rows, n_scored + 1)[0, :-1]
        targets = rows[0, -n_scored:, None]
        picked = logits.gather(1, targets)[:, 0] - logits.logsumexp(dim=-1)
        return scored(request.request_id, float(picked.double().sum()), n_scored)


def run_generate(
    loaded: LoadedModel,
    row: DecodeRow,
    processors: Sequence[LogitsProcessor],
    criteria: Sequence[StoppingCriteria],
) -> None:
    """The library's own loop over one row, with nothing of the model's sampling settings."""
    model = loaded.model
    config = GenerationConfig(
        do_sample=False, max_new_tokens=row.limit, pad_token_id=loaded.pad_id, eos_token_id=None
    )
    own, model.generation_config = model.generation_config, config
    ids = torch.tensor([row.prompt], device=loaded.device)
    try:
        with clearing_state(model):
            model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                generation_config=config,
                logits_processor=list(processors),
                stopping_criteria=list(criteria),
            )
    finally:
        model.generation_config = own


@contextlib.contextmanager
def adapted(loaded: LoadedModel, paths: Sequence[str]) -> Iterator[None]:
    """Inside, the model has these adapters, as PEFT applies them.

    Raises:
        InputError: PEFT cannot put one of them on this model.
    """
    if not paths:
        yield
        return
    wrapped = wrap(loaded, paths)
    try:
        yield
    finally:
        wrapped.unload()


def wrap(loaded: LoadedModel, paths: Sequence[str]) -> Any:
    """PEFT's model of these adapters, all active: it adds up their deltas.

    Raises:
        InputError: PEFT cannot put one of them on this model, which stays as it was.
    """
    for path in paths:
        _check_finite(path)
    wrapped: Any = None
    names = [f"stack-{i}" for i in range(len(paths))]
    try:
        for name, path in zip(names, paths, strict=True):
            try:
                with warnings.catch_warnings():
                    # An adapter on a policy says so; here the policy is below it.
                    warnings.filterwarnings("ignore", f".*{NEEDS_POLICY}")
                    if wrapped is None:
                        model = loaded.model
                        wrapped = peft.PeftModel.from_pretrained(model, path, adapter_name=name)
                    else:
                        wrapped.load_adapter(path, adapter_name=name)
            except (ValueError, RuntimeError, KeyError, AttributeError, TypeError) as error:
                raise InputError(f"PEFT cannot put adapter {path} on the model: {error}") from error
        # Only the tuner below takes several adapters at once.
        wrapped.base_model.set_adapter(names, inference_mode=True)
        wrapped.eval()
    except BaseException:
        if wrapped is not None:
            wrapped.unload()
        raise
    return wrapped


def _check_finite(path: str) -> None:
    if not is_finite({name: (pair.a, pair.b) for name, pair in read_adapter(path).items()}):
        raise InputError(f"adapter {path} holds NaN or infinite weights")


class _Chooser(LogitsProcessor):
    """Makes `generate()` take the token that the row's own settings and seed choose."""

    def __init__(self, row: DecodeRow, device: torch.device) -> None:
        self._row = row
        self._sampler = Sampler([row.request], [row.limit], device=device)

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Scores `[1, vocabulary]` that leave one token."""
        row = self._row
        token = self._sampler.choose(scores, len(row.ids))
        logits = scores if scores.dtype == torch.float64 else scores.float()
        logprob = logits[0, token[0]] - logits[0].logsumexp(dim=-1)
        row.ids.append(int(token))
        row.logprob += float(logprob)
        return torch.full_like(scores, -math.inf).index_fill_(1, token, 0.0)


class _Ends(StoppingCriteria):
    """Ends a row where the other generator would."""

    def __init__(self, row: DecodeRow, finder: StopFinder, telling: Telling | None) -> None:
        self._row, self._finder, self._telling = row, finder, telling

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        """True `[1]` when the row is done."""
        row = self._row
        row.finish(self._finder)
        if self._telling is not None:
            self._telling.grow()
        return torch.tensor([bool(row.finish_reason)], device=input_ids.device)


def _by_adapters(requests: Sequence[Any]) -> list[tuple[tuple[str, ...], list[int]]]:
    groups: dict[tuple[str, ...], list[int]] = {}
    for index, request in enumerate(requests):
        groups.setdefault(request.adapters, []).append(index)
    return list(groups.items())


def _report(progress: Progress | None) -> None:
    if progress is not None:
        progress(1)
