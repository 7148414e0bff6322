"""Leases: one machine at a time executes a run of a store in object storage.

A lease is an object, made under a condition, that its holder writes anew every few seconds. Who
finds one that has not been renewed for its whole length takes it over, under a condition again, so
that a holder that was killed blocks nobody for longer. Ages are by the server's clock alone.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from seal_core.errors import Busy, SealError
from storage.files.base import Files, Objects, in_objects
from storage.files.local import LocalFiles
from storage.files.roots import local_state_root
from storage.store import Store
from storage.tables.paths import check_run

EXPIRY_SECONDS = 60.0
_RENEWALS = 4
_TRIES = 3


class Lease:
    """A lease that this process holds.

    Attributes:
        lost: Set when another machine has taken it over, which it can once this process has been
            out of reach for the lease's length. What is in flight then is not stored.
    """

    def __init__(self, files: Objects, path: str, content: dict[str, Any]) -> None:
        self.lost = threading.Event()
        self._files = files
        self._path = path
        self._data = json.dumps(content, sort_keys=True).encode()
        self._released = threading.Event()

    def acquire(self, expiry: float, place: str) -> dict[str, Any] | None:
        """Takes the lease if it is free, expired, or of an earlier process of this place.

        Returns:
            None if it is ours now, else the holder's entry, with `seconds_left` of the lease.
        """
        for _ in range(_TRIES):
            if self._files.create(self._path, self._data) or self._is_ours():
                return None
            stamp = self._files.stamp(self._path)
            holder = self._holder()
            if stamp is None or holder is None:
                continue
            free = stamp.age >= expiry or holder.get("place") == place
            if not free:
                return {**holder, "seconds_left": max(1, round(expiry - stamp.age))}
            if self._files.swap(self._path, self._data, stamp.version) or self._is_ours():
                return None
        return self._holder() or {}

    def renew_every(self, seconds: float) -> None:
        """Writes the lease anew until it is released or lost; for a thread of its own."""
        while not self._released.wait(seconds):
            try:
                stamp = self._files.stamp(self._path)
                if not self._is_ours() or stamp is None:
                    self.lost.set()
                    return
                self._files.swap(self._path, self._data, stamp.version)
            except SealError:
                # Out of reach: the lease holds until it expires, so there is time to try again.
                continue

    def release(self) -> None:
        """Gives the lease back, if it still is ours; out of reach, it expires by itself."""
        self._released.set()
        with suppress(SealError):
            if self._is_ours():
                self._files.delete(self._path)

    def _holder(self) -> dict[str, Any] | None:
        try:
            return json.loads(self._files.read(self._path))
        except FileNotFoundError:
            return None
        except ValueError:
            return {}

    def _is_ours(self) -> bool:
        try:
            return self._files.read(self._path) == self._data
        except FileNotFoundError:
            return False


@contextmanager
def hold_run(store: Store, name: str, busy: str) -> Iterator[Lease | None]:
    """Holds a run of a store, on this machine and among machines; at most one process does.

    Args:
        busy: What to tell the user if another process of this machine holds it.

    Raises:
        Busy: another process holds it.
    """
    with store.lock(f"run-{name}", timeout=0, busy=busy), run_lease(store.files, name) as lease:
        yield lease


@contextmanager
def run_lease(files: Files, name: str, expiry: float = EXPIRY_SECONDS) -> Iterator[Lease | None]:
    """Holds the right to execute a run, among machines; on a local store `Store.lock` is enough.

    Enter it while holding the `Store.lock` of the run: a lease of this machine is then left over
    from a process that died, and is taken over at once.

    Args:
        expiry: Seconds after which a lease that is not renewed is free.

    Raises:
        Busy: another machine executes the run.
    """
    check_run(name)
    if not in_objects(files):
        yield None
        return
    place = _place(files)
    content = {
        "owner": uuid.uuid4().hex, "place": place, "host": socket.gethostname(), "pid": os.getpid()
    }  # fmt: skip
    lease = Lease(files, f"_locks/run-{name}.json", content)
    if (holder := lease.acquire(expiry, place)) is not None:
        raise Busy(
            f"run {name!r} is being executed on {holder.get('host', 'another machine')} (process "
            f"{holder.get('pid', '?')}): wait for it, or choose another --name; if it died, try "
            f"again in {holder.get('seconds_left', round(expiry))} s"
        )
    renewer = threading.Thread(
        target=lease.renew_every, args=(expiry / _RENEWALS,), name=f"lease-{name}", daemon=True
    )
    renewer.start()
    try:
        yield lease
    finally:
        lease.release()
        renewer.join(timeout=expiry / _RENEWALS)


def _place(files: Objects) -> str:
    """Names this machine's folder of locks: who shares it is kept apart by the locks in it."""
    state = LocalFiles(local_state_root(files.root))
    state.create("place", uuid.uuid4().hex.encode())
    return state.read("place").decode()
