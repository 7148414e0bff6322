"""Lets a signal end the work once: those that follow it do not interrupt the end."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from seal_core.errors import Ended

_ENDING = (signal.SIGINT, signal.SIGTERM)
_blocks = 0


@contextmanager
def ended_once(*, inside: bool = False) -> Iterator[None]:
    """Ignores SIGINT and SIGTERM once one of them has come, in the block and after it.

    `timeout` sends SIGTERM twice, impatient people ctrl-C many times. The second would leave the
    engines at work, in the middle of their end, and Prefect waiting for them for ever.

    Args:
        inside: Only within another such block. Prefect's flows have a handler of their own, over
            which it goes; but a worker's flow run is cancelled by that handler alone.
    """
    global _blocks
    # Python handles signals in the main thread only.
    if (inside and not _blocks) or threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in _ENDING}
    # Those that are ignored stay so; None was not installed by Python, and cannot be put back.
    before = {n: h for n, h in handlers.items() if h not in (signal.SIG_IGN, None)}
    ended = False

    def first(number: int, frame: FrameType | None) -> Any:
        nonlocal ended
        if ended:
            return None  # Somebody has put this handler back.
        ended = True
        for other in before:
            signal.signal(other, signal.SIG_IGN)
        handler = before[signal.Signals(number)]
        if callable(handler):
            return handler(number, frame)
        raise Ended(128 + number)  # What the default action stands for.

    for number in before:
        signal.signal(number, first)
    _blocks += 1
    try:
        yield
    finally:
        _blocks -= 1
        if not ended:
            for number, handler in before.items():
                signal.signal(number, handler)
