"""Named runs: a name stands for one config, and using it for another is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import seal_core
from seal_core.config_changes import check_unchanged, config_identity
from seal_core.errors import InputError, StoreError
from seal_core.fingerprint import canonical_json, digest
from seal_core.types import CONTROL_ROUND, TableRef
from storage.files.json_records import encode_record, read_record, write_record
from storage.store import Store
from storage.tables.paths import RUN_RECORDS, check_run, is_run, run_of, run_record
from storage.tables.store_rows import RunRow


def find_run(
    store: Store, name: str, config: Mapping[str, Any], *, parent_run: str | None = None
) -> RunRow | None:
    """The run of this name; None if the name is free. Reads only.

    Raises:
        InputError: as `register_run` would.
    """
    check_run(name)
    if parent_run is not None:
        get_run(store, parent_run)
    found, _ = _find(store, name)
    if found is not None:
        _check_same(found, config, parent_run)
    return found


def register_run(
    store: Store,
    name: str,
    config: Mapping[str, Any],
    shard_size: int,
    *,
    parent_run: str | None = None,
    note: Callable[[str], None] = lambda message: None,
) -> RunRow:
    """Records a run, or finds its record; the recorded shard size is the one to use.

    Args:
        config: `Config.identity()`, or a whole dump; `execution` and the name do not count.
        parent_run: The run to fork. The fork keeps its shard size, and so shares its shards.
        note: Told of a damaged record that was mended from its other copy.

    Raises:
        InputError: the name belongs to a run with another config or another parent, or there is
            no run to fork.
    """
    check_run(name)
    parent = get_run(store, parent_run) if parent_run is not None else None
    with store.lock(f"register-{name}"):
        found, problem = _find(store, name)
        if found is None:
            row = RunRow(
                run=name,
                config_json=canonical_json(config),
                identity=digest(config_identity(config)),
                created_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
                seal_version=seal_core.__version__,
                shard_size=parent.shard_size if parent else shard_size,
                parent_run=parent_run,
            )
            if problem:
                note(f"{problem}, and so is the table's row; the run starts from its config")
                store.quarantine(run_record(name))
            if store.files.create(run_record(name), encode_record(_record(store, row))):
                _write_row(store, row)
                return row
            # Another machine was faster, where the lock is not shared.
            found = get_run(store, name)
        _mend(store, found, problem, note)
    _check_same(found, config, parent_run)
    return found


def list_runs(store: Store) -> list[RunRow]:
    """All runs, the oldest first; files whose name cannot be a run's are no run."""
    names = {Path(path).stem for path in store.files.glob(f"{RUN_RECORDS}/*.json")}
    names |= {run_of(path) for path in store.files.glob("runs/run=*/round=*/*")}
    rows = (_find(store, name)[0] for name in names if is_run(name))
    return sorted((row for row in rows if row), key=lambda row: (row.created_at, row.run))


def get_run(store: Store, name: str) -> RunRow:
    """One run.

    Raises:
        InputError: there is none of this name; the message lists those there are.
    """
    found, _ = _find(store, check_run(name))
    if found is None:
        names = ", ".join(row.run for row in list_runs(store)) or "no run"
        raise InputError(f"no run {name!r} in this store; it has: {names}")
    return found


def run_problem(store: Store, name: str) -> str | None:
    """None if a run's record and its row in the table are whole, else what is wrong."""
    _, problem = _find(store, check_run(name))
    return problem or store.verify(TableRef(**read_record(store.files, run_record(name))["part"]))


def _check_same(found: RunRow, config: Mapping[str, Any], parent_run: str | None) -> None:
    check_unchanged(found.run, json.loads(found.config_json), config)
    if parent_run is not None and found.parent_run != parent_run:
        raise InputError(
            f"run {found.run!r} exists and is no fork of {parent_run!r}: give the fork another "
            "--name"
        )


def _find(store: Store, name: str) -> tuple[RunRow | None, str | None]:
    """A run from its record or, if that is damaged, from its row in the table; and the damage."""
    path = run_record(name)
    problem = None
    try:
        row = RunRow(**read_record(store.files, path)["row"])
        if row.run == name:
            return row, None
        missing = problem = f"{path}: the record is of run {row.run!r}"
    except FileNotFoundError:
        missing = f"{path}: the record is missing"
    except (StoreError, TypeError, KeyError) as error:
        missing = problem = str(error)
    try:
        rows = [row for _, row in store.rows("runs", name) if _is_whole(row, name)]
    except StoreError:
        rows = []
    return (rows[0], missing) if rows else (None, problem)


def _is_whole(row: RunRow, name: str) -> bool:
    try:
        return row.run == name and row.identity == digest(
            config_identity(json.loads(row.config_json))
        )
    except (ValueError, AttributeError):
        return False


def _write_row(store: Store, row: RunRow, *, write: bool = True) -> TableRef:
    return store.write_part(
        "runs", [row], run=row.run, round_index=CONTROL_ROUND, slot="run", write=write
    )


def _record(store: Store, row: RunRow) -> dict[str, Any]:
    return {"row": asdict(row), "part": asdict(_write_row(store, row, write=False))}


def _mend(store: Store, row: RunRow, problem: str | None, note: Callable[[str], None]) -> None:
    """Makes record and table's row whole from the one that is."""
    path = run_record(row.run)
    if problem:
        write_record(store.files, path, _record(store, row))
        note(f"{problem}; written again from the table")
    part = TableRef(**read_record(store.files, path)["part"])
    if problem := store.verify(part):
        note(f"{problem}; written again from its record")
        if _write_row(store, row) != part:  # Another version of the code writes other bytes.
            write_record(store.files, path, _record(store, row))
