"""Named runs: a name stands for one config, and using it for another is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import seal_core
from seal_core.errors import InputError
from seal_core.fingerprint import canonical_json, digest
from seal_core.types import CONTROL_ROUND
from storage.naming import check_run
from storage.rows import RunRow
from storage.store import Store

_MISSING = object()


def register_run(
    store: Store,
    name: str,
    config: Mapping[str, Any],
    shard_size: int,
    *,
    parent_run: str | None = None,
) -> RunRow:
    """Records a run, or finds its record; the recorded shard size is the one to use.

    Args:
        config: `Config.identity()`, or a whole dump; `execution` and the name do not count.

    Raises:
        InputError: the name belongs to a run with another config.
    """
    check_run(name)
    identity = digest(_identity(config))
    with store.lock(f"register-{name}"):
        found = _find(store, name)
        if found is None:
            row = RunRow(
                run=name,
                config_json=canonical_json(config),
                identity=identity,
                created_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
                seal_version=seal_core.__version__,
                shard_size=shard_size,
                parent_run=parent_run,
            )
            store.write_part(
                "runs", [row], run=name, round_index=CONTROL_ROUND, identity=digest(["run", name])
            )
            return row
    if found.identity != identity:
        raise InputError(_difference(found, config))
    return found


def list_runs(store: Store) -> list[RunRow]:
    """All runs, the oldest first."""
    rows = [row for _, row in store.rows("runs")]
    return sorted(rows, key=lambda row: (row.created_at, row.run))


def get_run(store: Store, name: str) -> RunRow:
    """One run.

    Raises:
        InputError: there is none of this name; the message lists those there are.
    """
    found = _find(store, check_run(name))
    if found is None:
        names = ", ".join(row.run for row in list_runs(store)) or "no run"
        raise InputError(f"no run {name!r} in this store; it has: {names}")
    return found


def _find(store: Store, name: str) -> RunRow | None:
    rows = store.rows("runs", name)
    return rows[0][1] if rows else None


def _identity(config: Mapping[str, Any]) -> dict[str, Any]:
    plain = {key: value for key, value in config.items() if key not in ("execution", "engine")}
    if isinstance(plain.get("run"), Mapping):
        plain["run"] = {key: value for key, value in plain["run"].items() if key != "name"}
    return plain


def _difference(found: RunRow, config: Mapping[str, Any]) -> str:
    old = _leaves(_identity(json.loads(found.config_json)))
    new = _leaves(json.loads(canonical_json(_identity(config))))
    changes = [
        f"{key}: {_show(old.get(key, _MISSING))} -> {_show(new.get(key, _MISSING))}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key, _MISSING) != new.get(key, _MISSING)
    ]
    return (
        f"run {found.run!r} exists with another config ({'; '.join(changes)}): "
        "give this one another --name, or undo the change"
    )


def _leaves(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    found: dict[str, Any] = {}
    for key, item in value.items():
        found.update(_leaves(item, f"{prefix}.{key}" if prefix else key))
    return found


def _show(value: Any) -> str:
    return "(not set)" if value is _MISSING else json.dumps(value)
