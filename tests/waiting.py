"""Waiting in tests: for what is to happen, and never for a time in which it should have."""

from __future__ import annotations

import time
from collections.abc import Callable

HUNG = 1800.0
"""Seconds after which a test hangs. It only ends such a test: nothing is judged by it."""


def eventually(fact: Callable[[], object]) -> bool:
    """Waits until something is so; False if it hangs."""
    deadline = time.monotonic() + HUNG
    while not fact():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
