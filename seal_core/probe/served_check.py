"""Compares another engine's answers with the plain libraries' before a run relies on it.

A server may hold other weights under the same name, or leave an adapter out without a word. Its
log-probabilities of some texts, and those of its own greedy answers, must be what plain
transformers and PEFT give for them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from seal_core.engines import GenerateRequest, Generator, Scored, ScoreRequest
from seal_core.errors import EngineError
from seal_core.generation.plain_generator import PlainGenerator
from seal_core.models.files.adapter_files import write_adapter
from seal_core.models.loading import LoadedModel
from seal_core.models.logits import next_logits
from seal_core.models.lora_layers import LinearLayers
from seal_core.models.rounding import TOLERANCE, spread
from seal_core.probe.probe_rows import RANK, STRENGTH, random_weights, some_tokens
from seal_core.probe.reference_scores import Asked, References
from seal_core.probe.verdict import Comparison

Score = Callable[[Sequence[ScoreRequest]], Sequence[Scored]]

_TEXTS = (
    ("The river runs past the old", " mill and down to the sea."),
    ("Q: Who keeps bees?\nA:", " The miller's sister does"),
    ("In winter, snow", " lies on the hills for weeks; then it melts."),
)
_TOKENS = 8
_EFFECT = 2.0
"""An adapter on one kind of layer alone has to do so many times what rounding does."""
_DOUBLINGS = 6


def references(
    loaded: LoadedModel, targets: Sequence[str], folder: Path, chats: bool = False
) -> References:
    """Asks the plain libraries.

    Args:
        folder: For random adapters, which the requests name.
        chats: Whether the run's prompts are conversations.

    Raises:
        InputError: A target names no layer of the model, or its chat template cannot be used.
    """
    generator = PlainGenerator(loaded)
    layers = LinearLayers(loaded.model)
    modules = layers.resolve(targets)
    limit = TOLERANCE[loaded.model.dtype] * (_spread(loaded) or 1.0)

    def adapter(name: str, chosen: Sequence[str], seed: int, strength: float = STRENGTH) -> str:
        weights = random_weights(layers, chosen, seed, strength)
        write_adapter(folder / name, weights, RANK, 0.0, loaded.name, layers.short_names(chosen))
        return str(folder / name)

    def ask(name: str, requests: list[ScoreRequest]) -> Asked:
        return Asked(name, requests, _per_token(generator.score(requests)))

    paths = [adapter(f"adapter-{seed}", modules, seed) for seed in (0, 1)]
    stacks = ((), (paths[0],), (paths[1],), tuple(paths))
    requests = [request for stack in stacks for request in _requests(stack)]
    asked = [ask("log-probabilities of given texts", requests)]
    bare = asked[0].logprobs[: len(_TEXTS)]
    if chats:
        turns = [replace(own, request_id=f"chat-{own.request_id}", chat=True) for own in requests]
        asked.append(ask("log-probabilities in conversations", turns[: len(_TEXTS)]))
    for kind in sorted({name.rpartition(".")[2] for name in modules}):
        chosen = [name for name in modules if name.rpartition(".")[2] == kind]
        for doublings in range(_DOUBLINGS + 1):
            path = adapter(f"{kind}-{doublings}", chosen, 0, STRENGTH * 2.0**doublings)
            own = ask(f"log-probabilities with an adapter on {kind} alone", _requests((path,)))
            if _apart(own.logprobs, bare) > _EFFECT * limit:
                # Weaker ones, or none at all, could not be told from rounding.
                asked.append(own)
                break
    return References(asked, limit)


def check_served(generator: Generator, expected: References, score: Score) -> list[Comparison]:
    """Holds an engine to `references`.

    Args:
        score: What the plain libraries, or an engine that was proven, say of a text.

    Raises:
        EngineError: The engine or `score` could not answer.
    """
    found = [
        _comparison(
            asked.name, _per_token(generator.score(asked.requests)), asked.logprobs, expected.limit
        )
        for asked in expected.asked
    ]
    own, plain = _own_answers(generator, expected.asked[0].requests, score)
    return [
        *found,
        _comparison("log-probabilities of its own answers", own, plain, expected.limit),
    ]


def _own_answers(
    generator: Generator, requests: Sequence[ScoreRequest], score: Score
) -> tuple[list[float], list[float]]:
    """What an engine says of its own greedy answers, nats per token, and what `score` does."""
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
    own, plain = [], []
    for (answer, _), found in zip(pairs, rescored, strict=True):
        # A text may be other tokens than the ones that it was generated with.
        if found.logprob is not None and found.n_tokens == answer.n_tokens:
            own.append((answer.logprob or 0.0) / answer.n_tokens)
            plain.append(found.logprob / found.n_tokens)
    return own, plain


def _comparison(
    name: str, found: Sequence[float], expected: Sequence[float], limit: float
) -> Comparison:
    if not expected:
        fault = "none could be scored: each ends at once, or its text is other tokens"
        return Comparison(name, None, limit, fault)
    error = _apart(found, expected)
    fault = None
    if not error <= limit:
        fault = f"{error:.1e} nats per token apart, where rounding explains {limit:.1e}"
    return Comparison(name, error, limit, fault)


def _apart(found: Sequence[float], expected: Sequence[float]) -> float:
    """Root mean square of the differences; NaN if one is."""
    squares = [(one - other) ** 2 for one, other in zip(found, expected, strict=True)]
    return (sum(squares) / len(squares)) ** 0.5


@torch.inference_mode()
def _spread(loaded: LoadedModel) -> float:
    """Standard deviation of the logits of a text, nats."""
    ids = torch.tensor([some_tokens(loaded, 11, 0)], device=loaded.device)
    return spread(next_logits(loaded.model, ids, ids.shape[1]))


def _requests(stack: tuple[str, ...]) -> list[ScoreRequest]:
    return [
        ScoreRequest(f"{i}-{len(stack)}-{stack}", prompt, text, stack)
        for i, (prompt, text) in enumerate(_TEXTS)
    ]


def _per_token(scores: Sequence[Scored]) -> list[float]:
    found = []
    for scored in scores:
        if scored.logprob is None:
            raise EngineError(f"a text could not be scored: {scored.error}")
        found.append(scored.logprob / scored.n_tokens)
    return found
