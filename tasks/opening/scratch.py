"""A folder of this machine for what a run writes on its way into the store."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from seal_core.errors import StageError
from seal_core.fingerprint import digest
from storage.store import Store


@contextmanager
def run_scratch(store: Store, run: str) -> Iterator[Path]:
    """The run's folder, empty; the run's lock must be held.

    It goes with the block. What a killed start left in it, which may be many adapters, goes with
    the next start: the folder's name is the run's.

    Raises:
        StageError: it cannot be made, for example since it is somebody else's.
    """
    folder = Path(tempfile.gettempdir()) / f"seal-{digest([str(store.root), run])[:16]}"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(mode=0o700)
    except OSError as error:
        raise StageError(
            f"{folder} cannot be made ({error.strerror}): remove it, or set TMPDIR to another"
        ) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
