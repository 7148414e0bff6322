"""Texts for another engine to score, and what the plain libraries say of them; without torch."""

from __future__ import annotations

from dataclasses import dataclass

from seal_core.engines import ScoreRequest


@dataclass(frozen=True, slots=True)
class Asked:
    """Texts to score, and what the plain libraries say of them.

    Attributes:
        name: What it tells, for people.
        logprobs: Of each text, nats per token.
    """

    name: str
    requests: list[ScoreRequest]
    logprobs: list[float]


@dataclass(frozen=True, slots=True)
class References:
    """What another engine has to say.

    Attributes:
        limit: What rounding explains of a log-probability, nats per token.
    """

    asked: list[Asked]
    limit: float
