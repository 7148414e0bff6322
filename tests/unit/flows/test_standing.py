"""Where a run stands: time spent counts failures too."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.views.standing import run_standing, wall_seconds
from seal_core.errors import InputError
from seal_core.fingerprint import digest
from storage.runs.registry import register_run
from storage.store import Store
from tests.unit.storage.rows import STAGE, many, put


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.open(str(tmp_path / "store"))
    register_run(store, "r", {"run": {"name": "x"}}, 5)
    return store


def test_a_stage_of_which_the_config_does_not_tell(store: Store) -> None:
    rows = many(
        STAGE,
        [
            {"error": "died", "n_units": 0, "n_errors": 0},
            {"started_at": "2026-01-01T00:00:09.000+00:00"},
            {"identity": digest(2), "error": "died", "n_units": 0, "n_errors": 0},
        ],
    )
    for row in rows:
        put(store, "stages", [row])
    (line,) = run_standing(store, "r").stages
    assert (line.shards, line.done, line.cached, line.left) == (None, 1, 0, 0)
    assert (line.failed, line.units, line.errors) == (1, 4, 1)
    assert (line.seconds, line.tokens, line.label) == (6.0, 300, "round_0")


def test_wall_time_counts_what_was_at_work_at_once_only_once() -> None:
    spans = ((0, 4), (2, 6), (3, 5), (8, 9), (20, None))
    rows = many(
        STAGE,
        [
            {
                "started_at": f"2026-01-01T00:00:{start:02}.000+00:00",
                "ended_at": end and f"2026-01-01T00:00:{end:02}.000+00:00",
            }
            for start, end in spans
        ],
    )
    assert wall_seconds(rows) == 7.0
    assert wall_seconds([]) == 0.0


def test_an_unknown_run(store: Store) -> None:
    with pytest.raises(InputError, match="it has: r"):
        run_standing(store, "s")
