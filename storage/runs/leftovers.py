"""Removes temporary files that killed processes left in a store."""

from __future__ import annotations

import shutil
import time
from contextlib import suppress

from storage.files.local import LocalFiles
from storage.store import Store
from storage.tables.paths import (
    MANIFESTS,
    RESULT_RECORDS,
    RUN_RECORDS,
    RUNNING_RECORDS,
    check_run,
)
from storage.weights.adapters import FOLDER

_OLD_SECONDS = 86_400.0


def remove_leftovers(store: Store, run: str) -> int:
    """Removes temporary files of a run, and of what runs share, that are older than a day.

    A younger one may be just being written. Object storage has none: an object appears whole.

    Returns:
        How many there were.
    """
    if not isinstance(store.files, LocalFiles):
        return 0
    root, old = store.files.root, time.time() - _OLD_SECONDS
    own = (f"*/run={check_run(run)}/round=*", f"{RUNNING_RECORDS}/{run}")
    shared = (FOLDER, RESULT_RECORDS, RUN_RECORDS, MANIFESTS)
    folders = [path for pattern in own for path in root.glob(pattern)]
    folders += [root / name for name in shared]
    n_removed = 0
    for path in (path for folder in folders for path in folder.glob(".*.tmp")):
        with suppress(FileNotFoundError):  # Another run has just removed it.
            if path.stat().st_mtime >= old:
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()
            n_removed += 1
    return n_removed
