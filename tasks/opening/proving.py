"""Holds each server of an engine to the plain libraries before its first answer counts."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol, TypeVar, runtime_checkable

from seal_core.engines import (
    GenerateRequest,
    Generation,
    Generator,
    Progress,
    Scored,
    ScoreRequest,
)
from seal_core.errors import EngineError, InputError
from seal_core.generation.vllm.options import Served
from seal_core.process.pool import EnginePool

T = TypeVar("T")


@runtime_checkable
class Serving(Generator, Protocol):
    """A Generator that spreads its requests over servers."""

    def servers(self) -> list[Served]:
        """Each server, to be asked alone; raises `EngineError` if one cannot be reached."""
        ...


class ProvenGenerator:
    """A Generator whose servers are tried when they are first asked; see `probe.served_check`.

    A server that was restarted by someone may serve another model, so it is tried again.

    Args:
        generator: A `Serving`, or one that answers in this process and cannot be restarted.
        pool: Engine processes that know what the plain libraries answer.
        name: Of the model, for messages.
        kind: Of the engine, for messages.
    """

    def __init__(
        self,
        generator: Generator,
        pool: EnginePool,
        name: str,
        kind: str,
        timeout: float,
    ) -> None:
        self._generator, self._pool, self._timeout = generator, pool, timeout
        self._name, self._kind = name, kind
        self._lock = threading.Lock()
        self._proven: set[tuple[str, int]] = set()

    def generate(
        self, requests: Sequence[GenerateRequest], progress: Progress | None = None
    ) -> list[Generation]:
        """One result per request, in the order of the requests.

        Raises:
            InputError: A server answers with another model than the plain libraries.
            EngineError: A server was restarted meanwhile; what it answered does not count.
        """
        return self._ask(lambda: self._generator.generate(requests, progress))

    def score(
        self, requests: Sequence[ScoreRequest], progress: Progress | None = None
    ) -> list[Scored]:
        """As `generate`."""
        return self._ask(lambda: self._generator.score(requests, progress))

    def close(self) -> None:
        """Closes the engine."""
        self._generator.close()

    def _ask(self, ask: Callable[[], T]) -> T:
        with self._lock:
            for served in self._unproven():
                self._prove(served)
        answers = ask()
        if restarted := self._unproven():
            raise EngineError(
                f"the {self._kind} server {restarted[0].url} was restarted by someone while it "
                "was asked"
            )
        return answers

    def _unproven(self) -> list[Served]:
        own = self._generator
        servers = own.servers() if isinstance(own, Serving) else [Served("", 0, own)]
        return [served for served in servers if (served.url, served.life) not in self._proven]

    def _plain_scores(self, requests: Sequence[ScoreRequest]) -> Sequence[Scored]:
        return self._pool.call("plain_scores", {"requests": requests}, self._timeout)

    def _prove(self, served: Served) -> None:
        # It imports torch, which only these runs need here.
        check = importlib.import_module("seal_core.probe.served_check").check_served
        with TemporaryDirectory(prefix="seal-probe-") as folder:
            expected = self._pool.call("references", {"folder": Path(folder)}, self._timeout)
            comparisons = check(served.generator, expected, self._plain_scores)
        for found in comparisons:
            if found.fault is not None:
                place = f"server {served.url}" if served.url else "engine"
                raise InputError(
                    f"the {self._kind} {place} does not answer as {self._name} does: "
                    f"{found.name}: {found.fault}; check its model, dtype and adapters, or use "
                    "engine.kind = 'transformers'"
                )
        self._proven.add((served.url, served.life))
