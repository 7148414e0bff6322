"""What is known of a run beside its tables: executions under way, the last verdict on its model."""

from __future__ import annotations

from pathlib import Path

from storage.store import Store
from storage.tables.paths import RUNNING_RECORDS, check_run


def verdict_folder(state_root: Path) -> Path:
    """Where verdicts on models are remembered for all runs of a store on this machine."""
    return state_root / "_state" / "verdicts"


def verdict_path(store: Store, name: str) -> Path:
    """Where it is recorded which verdict on its model a run had last."""
    return store.log_root / check_run(name) / "model.json"


def in_flight(store: Store, name: str) -> int:
    """Notes of executions: those under way, killed, or ended and not yet appended to `stages`."""
    return len(store.files.glob(f"{RUNNING_RECORDS}/{check_run(name)}/*.json"))
