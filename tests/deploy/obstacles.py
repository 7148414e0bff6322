"""An honest way to make one shard fail: something is in the way where its weights have to go."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from storage.store import Store
from storage.tables.paths import part_path
from tests.deploy.runs import Case


@dataclass(frozen=True)
class Obstacle:
    """A file where a folder of adapters has to be."""

    label: str
    shard: int
    identity: str
    path: Path


def block_adapter(whole: Case, case: Case, label: str) -> Obstacle:
    """Puts a file where the last shard of a finetune stage will make a folder for an adapter.

    Args:
        whole: A finished run of the same config, whose adapters have the same digests.
    """
    store = Store.open(str(whole.store), create=False)
    index, last = max(
        (item for item in store.rows("stages", whole.name) if item[1].label == label),
        key=lambda item: item[1].shard,
    )
    part = part_path("adapters", whole.name, index, f"{label}/{last.shard}")
    mine = [Path(row.uri) for row in store.read(store.read_ref("adapters", part))]
    tables = [store.rows(table, whole.name) for table in ("adapters", "policies")]
    uris = {Path(row.uri) for rows in tables for _, row in rows if row.uri}
    # Adapters whose digests begin alike share a folder; nobody else's may be blocked.
    alone = (uri for uri in mine if sum(uri.parent == other.parent for other in uris) == 1)
    path = Store.open(str(case.store)).root / next(alone).parent
    path.parent.mkdir(exist_ok=True)
    path.touch()
    return Obstacle(label, last.shard, last.identity, path)


def unblock(obstacle: Obstacle) -> None:
    """Takes the file away."""
    obstacle.path.unlink()
