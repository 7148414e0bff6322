"""Does what need not wait for a GPU in threads beside it, and in its turn where there is none."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

_THREADS = 8


class InTurn(Executor):
    """Does the work when it is submitted: on a CPU a thread would only take the trainer's core."""

    def submit(self, fn: Callable[..., R], /, *args: Any, **kwargs: Any) -> Future[R]:
        """See `Executor.submit`."""
        future: Future[R] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # As a thread would: whoever asks for the result gets it.
            future.set_exception(error)
        return future


def workers(threads: bool) -> Executor:
    """Threads, or none; a context manager that waits for them."""
    if not threads:
        return InTurn()
    return ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1), "seal-trainer")


class Ahead(Generic[T, R]):
    """Prepares items in their order, a few of them ahead of the one that is asked for."""

    def __init__(
        self, executor: Executor, prepare: Callable[[T], R], items: Sequence[T], ahead: int
    ) -> None:
        self._executor = executor
        self._prepare = prepare
        self._waiting = deque(items)
        self._begun: deque[tuple[T, Future[R]]] = deque()
        self._ahead = ahead

    def __bool__(self) -> bool:
        return bool(self._waiting or self._begun)

    def next(self) -> tuple[T, R]:
        """The next item and what it was made into."""
        while self._waiting and len(self._begun) < self._ahead:
            item = self._waiting.popleft()
            self._begun.append((item, self._executor.submit(self._prepare, item)))
        item, future = self._begun.popleft()
        return item, future.result()


class Behind(Generic[T, R]):
    """Ends items while others go on; what came of them is told in the order of their submission."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._begun: deque[tuple[T, Future[R]]] = deque()

    def submit(self, item: T, work: Callable[[], R]) -> None:
        """Begins to end an item."""
        self._begun.append((item, self._executor.submit(work)))

    def beyond(self, n: int) -> Iterator[tuple[T, R]]:
        """The oldest items, until no more than `n` are left: each may hold much memory."""
        while len(self._begun) > n:
            item, future = self._begun.popleft()
            yield item, future.result()

    def done(self) -> Iterator[tuple[T, R]]:
        """Items that are ended, without waiting."""
        while self._begun and self._begun[0][1].done():
            item, future = self._begun.popleft()
            yield item, future.result()

    def rest(self) -> Iterator[tuple[T, R]]:
        """All others."""
        yield from self.beyond(0)
