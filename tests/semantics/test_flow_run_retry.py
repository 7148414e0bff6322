"""A flow run that Prefect retries, as `prefect flow-run retry` and its UI do.

1. Only the shard that failed, and what depends on it, runs again.
2. A part that was damaged in between is found and rebuilt, though its task run had completed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.flow_engine import run_flow
from prefect.states import Scheduled
from rich.console import Console

from flows.loading import load_config
from flows.progress import PlainProgress
from flows.seal_flow import run_rounds
from seal_core.errors import EngineError
from storage.sql.catalog import Catalog
from storage.store import Store
from storage.tables.paths import part_path
from tasks.opening.preflight import preflight
from tests.models import save_qwen2
from tests.semantics.scripted import Scripted, write_problems

ROOT = Path(__file__).parents[2]
N_HELDOUT, K = 2, 3


def test_a_retried_flow_run_goes_on(tmp_path: Path) -> None:
    """1, 2"""
    save_qwen2(tmp_path / "model")
    write_problems(tmp_path / "data.json", 6 + N_HELDOUT)
    settings = {
        "data.path": tmp_path / "data.json",
        "model.path": tmp_path / "model",
        "execution.store": tmp_path / "store",
        "execution.shard_size": 2,
        "execution.shard_retries": 0,
        "sample.edits_per_problem": K,
        "finetune.repeats": 1,
    }
    overrides = [f"{key}={value}" for key, value in settings.items()]
    checked = preflight(load_config(ROOT / "configs/squad.toml", overrides), "a")
    broken = [True]

    def fail_once(name: str, items: Sequence[Any]) -> None:
        if name == "update" and broken:
            raise EngineError("out of memory")

    engine = Scripted(fail_once)
    progress = PlainProgress(Console(quiet=True))
    seal = flow(lambda: run_rounds(checked, progress, engine.open), name="test")
    failed = seal(return_state=True)
    assert failed.is_failed()
    generated, trained = list(engine.generated), list(engine.trained)

    broken.clear()
    damaged = tmp_path / "store" / part_path("self_edits", "a", 0, "sample round_0/0")
    damaged.write_bytes(damaged.read_bytes()[:-9])
    with get_client(sync_client=True) as client:
        run_id = failed.state_details.flow_run_id
        assert run_id is not None
        client.set_flow_run_state(run_id, Scheduled(message="Retry from the UI"), force=True)
        done = run_flow(seal, flow_run=client.read_flow_run(run_id), return_type="state")
    assert done.is_completed()
    again = set(engine.generated[len(generated) :]) & set(generated)
    assert len(again) == 2 * K
    assert not set(engine.trained[len(trained) :]) & set(trained)
    assert engine.updates == 1
    with Catalog(Store.open(str(tmp_path / "store"), create=False)) as catalog:
        sql = "SELECT error IS NULL, count(*) FROM stages WHERE stage = 'update' GROUP BY ALL"
        assert sorted(catalog.fetch(sql)) == [(False, 1), (True, 1)]
