"""Locks between the processes of one machine; the kernel frees them when their holder dies."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from seal_core.errors import Busy, InputError


class Locks:
    """The locks of a store.

    Args:
        state_root: Folder of this machine for the store's state.
    """

    def __init__(self, state_root: Path) -> None:
        self._lock_folder = state_root / "_locks"

    @contextmanager
    def lock(self, name: str, timeout: float = -1, busy: str | None = None) -> Iterator[None]:
        """Holds a lock.

        Args:
            timeout: Seconds to wait; -1 for ever.
            busy: What to tell the user when the time is over.

        Raises:
            Busy: the lock was not free in time.
        """
        with self.try_lock(name, timeout) as held:
            if not held:
                raise Busy(busy or f"{name} is in use by another process: try later")
            yield

    @contextmanager
    def try_lock(self, name: str, timeout: float) -> Iterator[bool]:
        """As `lock`; whether it was free in time."""
        path = self._lock_folder / _lock_name(name)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=timeout)
        except Timeout:
            yield False
            return
        except PermissionError as error:
            raise InputError(
                f"store {path.parent.parent} is not writable: {path} ({error.strerror})"
            ) from error
        try:
            yield True
        finally:
            lock.release()


def _lock_name(name: str) -> str:
    """A file name for any text: readable, and different for different texts."""
    readable = re.sub(r"[^A-Za-z0-9_-]", "_", name)[:60]
    return f"{readable}-{hashlib.sha256(name.encode()).hexdigest()[:12]}.lock"
