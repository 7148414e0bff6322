"""What every Generator checks of a request, and the results that carry an error."""

from __future__ import annotations

import math

from seal_core.engines import GenerateRequest, Generation
from seal_core.errors import InputError


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


def failed_generation(request: GenerateRequest, error: str) -> Generation:
    """The result of a request that has no answer."""
    return Generation(request.request_id, None, 0, 0, None, "error", error)
