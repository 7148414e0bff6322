"""What every Generator checks of a request, and the results that carry an error."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from seal_core.engines import GenerateRequest, Generation
from seal_core.errors import InputError
from seal_core.models.chat import Chat


def check_request(request: GenerateRequest) -> None:
    """Refuses a request that no engine can answer.

    Raises:
        InputError: names the value and its bounds.
    """
    if request.max_tokens < 1:
        raise InputError(f"max_tokens is {request.max_tokens}: it must be positive")
    if not 0 <= request.temperature < math.inf:
        raise InputError(f"temperature is {request.temperature}: it must be 0 or positive")
    if not 0 < request.top_p <= 1:
        raise InputError(f"top_p is {request.top_p}: it must be in (0, 1]")
    if "" in request.stop:
        raise InputError("a stop string is empty")
    if not 0 <= request.seed < 2**63:
        raise InputError(f"the seed is {request.seed}: it must be in [0, 2**63)")


def end_tokens(stop_ids: Iterable[int], chat: Chat | None) -> frozenset[int]:
    """Tokens that end an answer: the model's own, and what ends a turn of its chat."""
    ends = () if chat is None or chat.end_id is None else (chat.end_id,)
    return frozenset((*stop_ids, *ends))


def without_end(ids: Sequence[int], stops: frozenset[int]) -> Sequence[int]:
    """The answer's own tokens: the one that ended it is not part of its text."""
    return ids[:-1] if ids and ids[-1] in stops else ids


def failed_generation(request: GenerateRequest, error: str) -> Generation:
    """The result of a request that has no answer."""
    return Generation(request.request_id, None, 0, 0, None, "error", error)
