"""A folder in memory for files that live as long as their owner.

Its owner holds a lock on a file in it, which the kernel lets go when the owner dies however
it dies: what a crash left behind is known by its free lock, and removed by the next owner.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path

_SHARED_MEMORY = Path("/dev/shm")
_PREFIX = "seal-"
_LOCK = "lock"
_YOUNG_SECONDS = 60.0


class MemoryFolder:
    """A fresh folder, with those of dead owners beside it removed.

    Args:
        parent: Where to make it; None for memory (`/dev/shm`) where there is some, else the
            folder for temporary files.
    """

    def __init__(self, parent: Path | None = None) -> None:
        shared = parent is not None
        parent = parent or _memory()
        parent.mkdir(parents=True, exist_ok=True)
        prefix = f"{_PREFIX}{os.getuid()}-"
        for folder in parent.glob(f"{prefix}*"):
            _remove_if_stale(folder)
        self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        if shared:
            self.path.chmod(0o755)  # Its reader may be another user's process.
        self._lock = (self.path / _LOCK).open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def close(self) -> None:
        """Removes the folder and all in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()


def _memory() -> Path:
    if os.access(_SHARED_MEMORY, os.W_OK):
        return _SHARED_MEMORY
    return Path(tempfile.gettempdir())


def _remove_if_stale(folder: Path) -> None:
    # Whatever goes wrong here concerns another owner's folder, which may vanish meanwhile.
    with contextlib.suppress(OSError):
        if not (folder / _LOCK).exists():
            # Its owner may be between making the folder and locking it.
            if time.time() - folder.stat().st_mtime > _YOUNG_SECONDS:
                shutil.rmtree(folder)
            return
        with (folder / _LOCK).open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)
