"""Two runs with equal stages, started at once in one store.

Each shard is executed once, by whichever run comes first; both have all rows.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.semantics.conftest import Runner
from tests.semantics.runs import ask
from tests.semantics.scripted import Scripted


def slowly(_: str, __: Sequence[Any]) -> None:
    """So long that the other run comes to the same shard meanwhile."""
    time.sleep(0.2)


def test_each_shard_is_executed_once(inputs: Path, store: Path) -> None:
    engines = Scripted(slowly), Scripted(slowly)
    with ThreadPoolExecutor(2) as pool:
        runs = [
            pool.submit(Runner(inputs, store), engine, name)
            for engine, name in zip(engines, "ab", strict=True)
        ]
    for run in runs:
        run.result()
    assert ask(store, "SELECT label FROM stages GROUP BY identity, label HAVING count(*) > 1") == []
    shared = set(engines[0].generated) & set(engines[1].generated)
    assert not shared and engines[0].generated and engines[1].generated
    for table in ("self_edits", "adapters", "answers", "scores", "selections", "policies"):
        columns = f"SELECT * EXCLUDE run FROM {table} WHERE run"
        assert ask(store, f"{columns} = 'a' EXCEPT ALL {columns} = 'b'") == []
        assert ask(store, f"{columns} = 'b' EXCEPT ALL {columns} = 'a'") == []
