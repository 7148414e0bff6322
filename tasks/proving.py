"""Holds a vLLM engine to the plain libraries before its first answer counts."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from seal_core.engines import (
    GenerateRequest,
    Generation,
    Generator,
    Progress,
    Scored,
    ScoreRequest,
)
from seal_core.errors import InputError
from seal_core.process.pool import EnginePool


class ProvenGenerator:
    """A Generator that is tried when it is first asked; see `probe.served_check`.

    Args:
        pool: Engine processes that know what the plain libraries answer.
        name: Of the model, for messages.
    """

    def __init__(
        self,
        generator: Generator,
        pool: EnginePool,
        name: str,
        timeout: float,
    ) -> None:
        self._generator, self._pool, self._name = generator, pool, name
        self._timeout = timeout
        self._lock = threading.Lock()
        self._proven = False

    def generate(
        self, requests: Sequence[GenerateRequest], progress: Progress | None = None
    ) -> list[Generation]:
        """One result per request, in the order of the requests.

        Raises:
            InputError: The engine answers with another model than the plain libraries.
        """
        self._prove()
        return self._generator.generate(requests, progress)

    def score(
        self, requests: Sequence[ScoreRequest], progress: Progress | None = None
    ) -> list[Scored]:
        """As `generate`."""
        self._prove()
        return self._generator.score(requests, progress)

    def close(self) -> None:
        """Closes the engine."""
        self._generator.close()

    def _plain_scores(self, requests: Sequence[ScoreRequest]) -> Sequence[Scored]:
        return self._pool.call("plain_scores", {"requests": requests}, self._timeout)

    def _prove(self) -> None:
        with self._lock:
            if self._proven:
                return
            # It imports torch, which only these runs need here.
            check = importlib.import_module("seal_core.probe.served_check").check_served
            with TemporaryDirectory(prefix="seal-probe-") as folder:
                expected = self._pool.call("references", {"folder": Path(folder)}, self._timeout)
                comparisons = check(self._generator, expected, self._plain_scores)
            for found in comparisons:
                if found.fault is not None:
                    raise InputError(
                        f"the vLLM engine does not answer as {self._name} does: {found.name}: "
                        f"{found.fault}; check what its server was started with (model, dtype, "
                        "adapters), or use engine.kind = 'transformers'"
                    )
            self._proven = True
