"""An honest way to make one shard fail: something is in the way where its part has to go."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from storage.store import Store
from tests.deploy.runs import Case


@dataclass(frozen=True)
class Obstacle:
    """A folder in the place of a part."""

    label: str
    shard: int
    identity: str
    path: Path


def block_part(whole: Case, case: Case, label: str) -> Obstacle:
    """Puts a folder where the last shard of a stage will write its part.

    Args:
        whole: A finished run of the same config; parts are named by what they are made from.
    """
    rows = [row for row in whole.executions() if row.label == label]
    last = max(rows, key=lambda row: row.shard)
    (part,) = whole.store.rglob(f"part-{last.identity[:16]}.parquet")
    Store.open(str(case.store))
    path = case.store / part.relative_to(whole.store)
    path.mkdir(parents=True)
    return Obstacle(label, last.shard, last.identity, path)


def unblock(obstacle: Obstacle) -> None:
    """Takes the folder away."""
    obstacle.path.rmdir()
