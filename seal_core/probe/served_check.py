"""Compares another engine's answers with the plain libraries' before a run relies on it.

A server may hold other weights under the same name, or leave an adapter out without a word. Its
log-probabilities of some texts, and those of its own greedy answers, must be what plain
transformers and PEFT give for them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from seal_core.engines import GenerateRequest, Generator, Scored, ScoreRequest
from seal_core.errors import EngineError
from seal_core.generation.plain_generator import PlainGenerator
from seal_core.models.adapter_files import write_adapter
from seal_core.models.loading import LoadedModel
from seal_core.models.lora_layers import LinearLayers
from seal_core.models.rounding import TOLERANCE, relative_error
from seal_core.probe.probe_rows import RANK, random_weights
from seal_core.probe.verdict import Comparison

Score = Callable[[Sequence[ScoreRequest]], Sequence[Scored]]

_TEXTS = (
    ("The river runs past the old", " mill and down to the sea."),
    ("Q: Who keeps bees?\nA:", " The miller's sister does"),
    ("In winter, snow", " lies on the hills for weeks; then it melts."),
)
_TOKENS = 8
_EFFECT = 10.0
"""Adapters change log-probabilities by this many times what rounding explains."""
_DOUBLINGS = 10


def references(loaded: LoadedModel, targets: Sequence[str], folder: Path) -> dict[str, Any]:
    """Texts to score, and what the plain libraries say of them.

    Args:
        folder: For two adapters, which the requests name.

    Returns:
        `requests`, their `logprobs` (nats), and the `limit` of the relative L2 difference.

    Raises:
        InputError: A target names no layer of the model.
    """
    generator, limit = PlainGenerator(loaded), TOLERANCE[loaded.model.dtype]
    layers = LinearLayers(loaded.model)
    modules = layers.resolve(targets)
    bare = _logprobs(generator.score(_requests(())))
    paths = []
    for seed in (0, 1):
        path = str(folder / f"adapter-{seed}")
        for doublings in range(_DOUBLINGS):
            weights = random_weights(layers, modules, seed, 2.0**doublings)
            write_adapter(Path(path), weights, RANK, 0.0, loaded.name, layers.short_names(modules))
            changed = _logprobs(generator.score(_requests((path,))))
            if relative_error(torch.tensor(changed), torch.tensor(bare)) > _EFFECT * limit:
                break
        paths.append(path)
    stacks = ((), (paths[0],), (paths[1],), tuple(paths))
    requests = [request for stack in stacks for request in _requests(stack)]
    return {
        "requests": requests,
        "logprobs": _logprobs(generator.score(requests)),
        "limit": limit,
    }


def check_served(generator: Generator, expected: dict[str, Any], score: Score) -> list[Comparison]:
    """Holds an engine to `references`.

    Args:
        score: What the plain libraries, or an engine that was proven, say of a text.

    Raises:
        EngineError: The engine or `score` could not answer.
    """
    requests, limit = expected["requests"], expected["limit"]
    scored = _logprobs(generator.score(requests))
    answers = generator.generate(
        [GenerateRequest(r.request_id, r.prompt, r.adapters, max_tokens=_TOKENS) for r in requests]
    )
    pairs = []
    for request, answer in zip(requests, answers, strict=True):
        if answer.error is not None:
            raise EngineError(f"no answer to {request.prompt!r}: {answer.error}")
        # A stop token is not part of the text that is scored.
        if answer.finish_reason == "length":
            text = answer.text or ""
            again = ScoreRequest(request.request_id, request.prompt, text, request.adapters)
            pairs.append((answer, again))
    rescored = score([request for _, request in pairs]) if pairs else []
    own = [
        (answer.logprob, found.logprob)
        for (answer, _), found in zip(pairs, rescored, strict=True)
        # A text may be other tokens than the ones that it was generated with.
        if found.n_tokens == answer.n_tokens and found.logprob is not None
    ]
    return [
        _comparison("log-probabilities of given texts", scored, expected["logprobs"], limit),
        _comparison("log-probabilities of its own answers", *_columns(own), limit),
    ]


def _columns(pairs: Sequence[tuple[Any, Any]]) -> tuple[list[float], list[float]]:
    return [own for own, _ in pairs], [plain for _, plain in pairs]


def _comparison(
    name: str, found: Sequence[float], expected: Sequence[float], limit: float
) -> Comparison:
    error = relative_error(torch.tensor(found), torch.tensor(expected)) if expected else 0.0
    fault = None
    if error > limit:
        fault = f"differs by {error:.1e}, where rounding explains {limit:g}"
    return Comparison(name, error, limit, fault)


def _requests(stack: tuple[str, ...]) -> list[ScoreRequest]:
    return [
        ScoreRequest(f"{i}-{len(stack)}-{stack}", prompt, text, stack)
        for i, (prompt, text) in enumerate(_TEXTS)
    ]


def _logprobs(scores: Sequence[Scored]) -> list[float]:
    found = []
    for scored in scores:
        if scored.logprob is None:
            raise EngineError(f"a text could not be scored: {scored.error}")
        found.append(scored.logprob)
    return found
