"""The small inputs that a model is tried on, and what the plain libraries make of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import LogitsProcessor

from seal_core.engines import GenerateRequest
from seal_core.generation.decoding import DecodeRow
from seal_core.generation.plain_generator import adapted, run_generate
from seal_core.generation.vllm.options import PROBE_RANK
from seal_core.models.files.adapter_files import write_adapter
from seal_core.models.loading import LoadedModel
from seal_core.models.logits import next_logits
from seal_core.models.lora_layers import LinearLayers, Weights

RANK = PROBE_RANK
ANSWERS = ((3, 2), (11, 9), (7, 5), (2, 3))
"""Tokens of prompt and answer; rows end one after another, so that a batch shrinks."""

STRENGTH = 1 / 8
"""Norm of an adapter's delta, as a share of its layer's weights: it changes what the model says
many times more than rounding does, and rounding no more than the model's own weights do."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What `generate()` does with one row: its tokens, and the logits `[steps, vocabulary]`."""

    prompt: list[int]
    adapters: tuple[str, ...]
    tokens: list[int]
    logits: torch.Tensor

    @property
    def score(self) -> float:
        """Log-probability of the tokens, nats."""
        own = self.logits.double().log_softmax(dim=-1)
        return float(own.gather(1, torch.tensor(self.tokens, device=own.device)[:, None]).sum())


def some_tokens(loaded: LoadedModel, length: int, place: int) -> list[int]:
    """A row of tokens that the model knows."""
    length = min(length, loaded.context or length)
    n_tokens = loaded.model.get_input_embeddings().weight.shape[0]
    return [(7 * i + 13 * place + 1) % n_tokens for i in range(length)]


@contextmanager
def two_adapters(loaded: LoadedModel, modules: Sequence[str]) -> Iterator[list[str]]:
    """Folders of two random adapters that change what the model says."""
    layers = LinearLayers(loaded.model)
    with TemporaryDirectory() as folder:
        paths = []
        for seed in (0, 1):
            path = Path(folder) / f"adapter-{seed}"
            weights = random_weights(layers, modules, seed)
            write_adapter(path, weights, RANK, 0.0, loaded.name, layers.short_names(modules))
            paths.append(str(path))
        yield paths


def random_weights(
    layers: LinearLayers, modules: Sequence[str], seed: int, strength: float = STRENGTH
) -> Weights:
    """A fresh adapter whose B is random instead of zero.

    Args:
        strength: Norm of each delta, as a share of the layer's weights.
    """
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, (a, _) in layers.initial_weights(modules, RANK, seed).items():
        b = torch.randn(layers.shape(name)[1], RANK, generator=generator)
        # A layer whose weights are zero gets a delta all the same.
        wanted = strength * (layers.norm(name) or 1.0)
        norm = float(((b.T @ b) * (a @ a.T)).sum()) ** 0.5  # Of b @ a.
        weights[name] = (a, b * (wanted / norm))
    return weights


def plain_answers(loaded: LoadedModel, paths: Sequence[str]) -> list[Answer]:
    """The rows of `ANSWERS`: without an adapter, with each of two, and with both at once."""
    stacks: list[tuple[str, ...]] = [(), (paths[0],), (paths[1],), tuple(paths)]
    answers = []
    for place, ((length, limit), stack) in enumerate(zip(ANSWERS, stacks, strict=True)):
        prompt = some_tokens(loaded, length, place)
        room = limit if loaded.context is None else loaded.context - len(prompt)
        row = DecodeRow(place, GenerateRequest(str(place), ""), prompt, max(1, min(limit, room)))
        recorder = _Recorder()
        with adapted(loaded, stack):
            run_generate(loaded, row, [recorder], [])
        answers.append(Answer(prompt, stack, recorder.tokens, torch.stack(recorder.logits)))
    return answers


@torch.inference_mode()
def uncached_logits(loaded: LoadedModel, answer: Answer) -> torch.Tensor:
    """The same steps' logits from one pass over the whole text, as training sees it."""
    ids = torch.tensor([answer.prompt + answer.tokens[:-1]], device=loaded.device)
    with adapted(loaded, answer.adapters):
        return next_logits(loaded.model, ids, len(answer.tokens))[0]


class _Recorder(LogitsProcessor):
    """Keeps what `generate()` sees in each step, and the tokens that it takes."""

    def __init__(self) -> None:
        self.logits: list[torch.Tensor] = []
        self.tokens: list[int] = []

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        self.logits.append(scores[0].clone())
        self.tokens.append(int(scores[0].argmax()))
        return scores
