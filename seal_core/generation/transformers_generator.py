"""Answers requests with their own adapters in shared batches, on the transformers library."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from seal_core.engines import (
    GenerateRequest,
    Generation,
    Progress,
    Scored,
    ScoreRequest,
)
from seal_core.errors import InputError
from seal_core.generation.batching import Item, pack
from seal_core.generation.decoding import DecodeRow, decode
from seal_core.generation.lora_bank import LoraBank, Stack, stack_order
from seal_core.generation.request_rows import decode_row, generation, score_text, scored
from seal_core.generation.requests import failed_generation
from seal_core.generation.scoring import text_logprobs
from seal_core.generation.stopping import StopFinder
from seal_core.models.files.adapter_files import adapter_stamp
from seal_core.models.loading import LoadedModel

_ADAPTER_BYTES = {"cpu": 1 << 30, "cuda": 16 << 30}
"""Memory for the adapters of one batch, and as much again for those read lately."""


class TransformersGenerator:
    """The embedded Generator; see `engines.Generator`.

    Args:
        max_batch_tokens: Rows times padded length of one batch; bounds memory, changes no
            result beyond floating-point ties.
    """

    def __init__(self, loaded: LoadedModel, max_batch_tokens: int = 32768) -> None:
        if max_batch_tokens < 1:
            raise InputError(f"max_batch_tokens is {max_batch_tokens}: it must be positive")
        self._loaded = loaded
        self._max_batch_tokens = max_batch_tokens
        self._adapter_bytes = _ADAPTER_BYTES.get(loaded.device.type, _ADAPTER_BYTES["cpu"])
        self._bank = LoraBank(loaded.model, self._adapter_bytes)
        self._finder = StopFinder(loaded.tokenizer)

    def generate(
        self, requests: Sequence[GenerateRequest], progress: Progress | None = None
    ) -> list[Generation]:
        """One result per request, in the order of the requests."""
        results: dict[int, Generation] = {}
        items, rows = [], {}
        for index, request in enumerate(requests):
            try:
                rows[index] = decode_row(self._loaded, index, request)
                items.append(
                    _item(index, len(rows[index].prompt), rows[index].limit, request.adapters)
                )
            except InputError as error:
                results[index] = failed_generation(request, str(error))
        _report(progress, len(results))
        for batch in pack(items, self._max_batch_tokens, self._adapter_bytes):
            ready, stacks = self._load_stacks(
                [item.index for item in batch],
                lambda index: requests[index].adapters,
                lambda index, error: results.update(
                    {index: failed_generation(requests[index], str(error))}
                ),
            )
            chosen = [rows[index] for index in ready]
            if chosen:
                self._with_stacks(stacks, lambda chosen=chosen: self._decode(chosen))
            for row in chosen:
                results[row.index] = generation(self._loaded, row, self._finder)
            _report(progress, len(batch))
        return [results[index] for index in range(len(requests))]

    def score(
        self, requests: Sequence[ScoreRequest], progress: Progress | None = None
    ) -> list[Scored]:
        """One result per request, in the order of the requests."""
        results: dict[int, Scored] = {}
        items, texts = [], {}
        for index, request in enumerate(requests):
            try:
                texts[index] = score_text(self._loaded, request)
                items.append(_item(index, len(texts[index][0]), 0, request.adapters))
            except InputError as error:
                results[index] = Scored(request.request_id, None, 0, str(error))
        _report(progress, len(results))
        for batch in pack(items, self._max_batch_tokens, self._adapter_bytes):
            ready, stacks = self._load_stacks(
                [item.index for item in batch],
                lambda index: requests[index].adapters,
                lambda index, error: results.update(
                    {index: Scored(requests[index].request_id, None, 0, str(error))}
                ),
            )
            chosen = [texts[index] for index in ready]
            sums = self._with_stacks(
                stacks, lambda chosen=chosen: text_logprobs(self._loaded, self._bank, chosen)
            )
            for index, logprob in zip(ready, sums, strict=True):
                results[index] = scored(requests[index].request_id, logprob, texts[index][1])
            _report(progress, len(batch))
        return [results[index] for index in range(len(requests))]

    def close(self) -> None:
        """Frees the model; the generator cannot be used afterwards."""
        del self._loaded, self._bank, self._finder
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _decode(self, rows: Sequence[DecodeRow]) -> None:
        decode(self._loaded, self._bank, self._finder, rows)

    def _load_stacks(
        self,
        indices: Sequence[int],
        adapters: Callable[[int], tuple[str, ...]],
        fail: Callable[[int, InputError], object],
    ) -> tuple[list[int], list[Stack | None]]:
        """Loads what the requests of a batch need; those whose adapters are bad drop out.

        The others come back in the order in which the bank takes them.
        """
        ready: list[int] = []
        stacks: list[Stack | None] = []
        for index in indices:
            paths = adapters(index)
            try:
                stack = self._bank.load(paths) if paths else None
            except InputError as error:
                fail(index, error)
                continue
            ready.append(index)
            stacks.append(stack)
        order = stack_order(stacks)
        return [ready[i] for i in order], [stacks[i] for i in order]

    def _with_stacks(self, stacks: Sequence[Stack | None], work: Callable[[], Any]) -> Any:
        """Runs one batch; the model is the plain base again afterwards, whatever happens."""
        self._bank.activate(stacks)
        try:
            return work()
        finally:
            self._bank.deactivate()


def _item(index: int, prefill: int, growth: int, adapters: tuple[str, ...]) -> Item:
    n_bytes = sum(adapter_stamp(path)[0] for path in adapters)
    return Item(index, prefill, growth, adapters, n_bytes)


def _report(progress: Progress | None, n: int) -> None:
    if progress is not None and n:
        progress(n)
