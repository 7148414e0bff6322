"""Engines of other packages: what they answer is held to what was asked, call by call.

Before the first call counts, `tasks.opening.proving` holds their log-probabilities to the plain
libraries', as it does those of vLLM.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seal_core.engines import (
    GenerateRequest,
    Generation,
    Generator,
    ModelInUse,
    Progress,
    Scored,
    ScoreRequest,
)
from seal_core.errors import InputError, StageError
from seal_core.kinds.guarded import Guarded, before_work
from seal_core.kinds.worth import is_number, is_text

_ROUNDING = 1e-3
"""Nats by which rounding may put a token's log-probability above 0."""


class ForeignEngine:
    """See `engines.Engine`.

    Args:
        kind: What the package has, under guard.
        title: How messages name it.
    """

    def __init__(self, kind: Any, title: str) -> None:
        self._kind, self._title = kind, title

    def check(self, model: ModelInUse) -> str:
        """See `engines.Engine.check`; also fails if it tells no version, or an impossible share."""
        with before_work(self._title):
            version = self._kind.check(model)
            self.memory_share(None)
        if not is_text(version) or not version:
            raise InputError(f"{self._title}: check gives {version!r}: use the library's version")
        return version

    def memory_share(self, trainers: str | None) -> float:
        """See `engines.Engine.memory_share`."""
        with before_work(self._title):
            share = self._kind.memory_share(trainers)
        if not (is_number(share) and 0 <= share < 1):
            raise InputError(f"{self._title}: memory_share is {share!r}: use a number in [0, 1)")
        return share

    def open(self, model: ModelInUse, log_dir: Path, timeout: float) -> Generator:
        """See `engines.Engine.open`."""
        generator = Guarded(self._kind.open(model, log_dir, timeout), self._title)
        return ForeignGenerator(generator, self._title)


class ForeignGenerator:
    """See `engines.Generator`; an answer that cannot be one ends the stage with its reason.

    Shards are at work at once, and a package need not be ready for that: its calls take turns.
    """

    def __init__(self, generator: Any, title: str) -> None:
        self._generator, self._title = generator, title
        self._turn = threading.Lock()

    def generate(
        self, requests: Sequence[GenerateRequest], progress: Progress | None = None
    ) -> list[Generation]:
        """One result per request, in the order of the requests.

        Raises:
            StageError: What came is no answer to what was asked, or the package fails.
        """
        with self._turn:
            found = self._generator.generate(requests, progress)
        self._check(requests, found, Generation)
        for request, one in zip(requests, found, strict=True):
            if fault := _fault(request, one):
                raise StageError(f"{self._title}, asked for {request.request_id}, {fault}")
        return list(found)

    def score(
        self, requests: Sequence[ScoreRequest], progress: Progress | None = None
    ) -> list[Scored]:
        """As `generate`."""
        with self._turn:
            found = self._generator.score(requests, progress)
        self._check(requests, found, Scored)
        return list(found)

    def close(self) -> None:
        """Closes the engine."""
        self._generator.close()

    def _check(self, requests: Sequence[Any], found: Any, kind: type) -> None:
        asked = [request.request_id for request in requests]
        results = found if isinstance(found, Sequence) else ()
        if [one.request_id if isinstance(one, kind) else None for one in results] != asked:
            raise StageError(
                f"{self._title} must give one {kind.__name__} per request, in their order"
            )
        for one in results:
            if fault := _result_fault(one):
                raise StageError(f"{self._title}, asked for {one.request_id}, {fault}")


def _result_fault(found: Generation | Scored) -> str | None:
    """What cannot be true of an answer or a score."""
    count, logprob, error = found.n_tokens, found.logprob, found.error
    if not isinstance(count, int) or isinstance(count, bool) or count < 0:
        return f"gives {count!r} tokens: use a whole number"
    if error is not None and not (is_text(error) and error):
        return f"gives the error {error!r}: use text, or None"
    if error is not None and logprob is None:
        return None
    if error is not None or logprob is None or not is_number(logprob):
        return (
            f"gives the log-probability {logprob!r} and the error {error!r}: use a finite number "
            "or an error"
        )
    if isinstance(found, Scored) and not count:
        return "scores a text of 0 tokens: use an error"
    if logprob > _ROUNDING * (1 + count):
        return f"gives the log-probability {logprob!r}: none is above 0"
    return None


def _fault(request: GenerateRequest, found: Generation) -> str | None:
    """What cannot be true of an answer to a request."""
    if (found.text is None) != (found.error is not None):
        return f"gives the text {found.text!r} and the error {found.error!r}: use one of them"
    if found.text is None:
        return None
    if not is_text(found.text):
        return f"gives {found.text!r} for text: use Unicode text"
    if found.finish_reason not in ("stop", "length"):
        return f"gives the finish reason {found.finish_reason!r}: use 'stop' or 'length'"
    if not 0 <= found.n_tokens <= request.max_tokens:
        return f"gives {found.n_tokens} tokens, where {request.max_tokens} were the most"
    if held := [text for text in request.stop if text in found.text]:
        return f"goes on after {held[0]!r}, where it should have stopped"
    return None
