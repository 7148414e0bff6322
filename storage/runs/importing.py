"""Writes a published run into the tables, where it is queried like a run of our own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from seal_core.errors import InputError
from seal_core.fingerprint import digest
from seal_core.published.records import PublishedRun
from seal_core.types import CONTROL_ROUND
from storage.runs.registry import list_runs, register_run
from storage.store import Store
from storage.tables.paths import check_run
from storage.tables.store_rows import RunRow, problem_rows, question_rows


def import_run(store: Store, name: str, published: PublishedRun) -> dict[str, int]:
    """Writes all rows under a run's name; rows that are there already are the same ones.

    An import that was killed is repaired by the next one.

    Returns:
        Rows by table; tables without rows are left out.

    Raises:
        InputError: the name cannot be one, or belongs to another run.
    """
    _refuse_other(store, check_run(name), published)
    with store.lock(f"run-{name}"):
        register_run(store, name, published.config, max(1, len(published.problems)))
        counts: dict[str, int] = {}
        identity = digest(["import", published.config["import"]["sha256"]])
        for table, index, rows in _parts(published):
            if rows:
                store.write_part(
                    table, rows, run=name, round_index=index, slot="import", identity=identity
                )
                counts[table] = counts.get(table, 0) + len(rows)
    return counts


def is_imported(row: RunRow) -> bool:
    """Whether a run was read from a file, so that no stage of it was ever executed here."""
    return "import" in json.loads(row.config_json)


def _refuse_other(store: Store, name: str, published: PublishedRun) -> None:
    """Says in plain words what `register_run` would list field by field."""
    for row in list_runs(store):
        if row.run != name:
            continue
        if not is_imported(row):
            raise InputError(f"run {name!r} exists and was not imported: choose another --name")
        imported = json.loads(row.config_json)["import"]
        if imported["sha256"] != published.config["import"]["sha256"]:
            raise InputError(
                f"run {name!r} was imported from another file (sha256 {imported['sha256'][:12]}, "
                f"not {published.config['import']['sha256'][:12]}): choose another --name"
            )


def _parts(run: PublishedRun) -> Iterator[tuple[str, int, Sequence[Any]]]:
    """Table, round and rows of each part, partitioned as in a run of our own."""
    yield "problems", CONTROL_ROUND, problem_rows(run.problems)
    yield "questions", CONTROL_ROUND, question_rows(run.problems)
    yield "policies", CONTROL_ROUND, run.policies
    yield "self_edits", 0, run.self_edits
    yield "adapters", 0, run.adapters
    if run.kind == "train":
        # A round's training is measured from answers of the round's own policy.
        yield "answers", 0, [*run.baseline, *run.answers]
    elif run.kind == "pretraining":
        # It belongs to no round of ReST-EM.
        yield "answers", CONTROL_ROUND, [*run.baseline, *run.answers]
    else:
        yield "answers", CONTROL_ROUND, run.baseline
        yield "answers", 0, run.answers
    yield "scores", 0, run.scores
    yield "selections", 0, run.selections
    yield "continual", CONTROL_ROUND, run.continual
