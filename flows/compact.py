"""The compaction of a store's closed rounds, as a flow. Order only."""

from __future__ import annotations

import os

from prefect import flow

from flows.commands.options import STORE
from flows.prefect_server.worker import watch_worker
from storage.runs.compaction import compact
from storage.store import Store


@flow(name="seal-compact", log_prints=True)
def compact_store(run: str | None = None, store: str | None = None) -> int:
    """Compacts the closed rounds of a run, or of all that are not at work; how many files it made.

    Args:
        run: Name of the run; all runs by default.
        store: Folder or URL; that of `SEAL_STORE` by default.
    """
    watch_worker()
    opened = Store.open(store or os.environ.get("SEAL_STORE") or STORE, create=False)
    made = compact(opened, run, print)
    for part in made:
        print(
            f"{part.run}, round {part.round_index}, {part.table}: {part.files} files of "
            f"{part.bytes_before} bytes are one of {part.bytes_after}"
        )
    print(f"{len(made)} files made")
    return len(made)
