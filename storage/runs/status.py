"""Where the verdicts on the models of runs are."""

from __future__ import annotations

from pathlib import Path

from storage.store import Store
from storage.tables.paths import check_run


def verdict_folder(state_root: Path) -> Path:
    """Where verdicts on models are remembered for all runs of a store on this machine."""
    return state_root / "_state" / "verdicts"


def verdict_path(store: Store, name: str) -> Path:
    """Where it is recorded which verdict on its model a run had last."""
    return store.log_root / check_run(name) / "model.json"
