"""A whole small run with real vLLM, by the command as typed.

1. On a server that runs already, its answers are those of a run with the transformers engine,
   given greedy self-edits.
2. On a server of its own, which is killed with SIGKILL in the middle: the run goes on, and its
   tables equal those of the undisturbed run.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from seal_core.engines import GenerateRequest
from seal_core.generation.vllm.generator import VllmGenerator
from storage.sql.catalog import Catalog
from storage.store import Store
from tests.waiting import HUNG

ROOT = Path(__file__).parents[2]
SEAL = [sys.executable, "-c", "from flows.cli import main; main()"]
SMALL = [
    *("run", str(ROOT / "configs/demo.toml"), "--set", "run.rounds=1"),
    *("--set", "data.limit=4", "--set", "data.heldout_limit=4", "--set", "finetune.epochs=3"),
    *("--set", "sample.edits_per_problem=2", "--set", "sample.temperature=0"),
    *("--set", "execution.shard_size=2", "--set", "execution.workers=1"),
]
VLLM = ["--set", "engine.kind=vllm", "--set", "engine.adapter_slots=4"]
OWN = [*VLLM, "--set", "engine.gpu_memory_utilization=0.1"]
TABLES = (
    *("problems", "questions", "self_edits", "adapters", "answers", "scores"),
    *("selections", "policies"),
)


def start(folder: Path, *extra: str, key: str = "") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*SEAL, *SMALL, *extra],
        cwd=folder,
        env={**os.environ, "VLLM_API_KEY": key},
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> None:
    _, stderr = process.communicate(timeout=HUNG)
    assert process.returncode == 0, stderr


def tables(folder: Path) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of the method's tables, but for log-probabilities, which depend on the batch."""
    with Catalog(Store.open(str(folder / "seal-store"), create=False)) as catalog:
        found = {}
        for table in TABLES:
            drop = "EXCLUDE (logprob)" if table in ("self_edits", "answers") else ""
            found[table] = sorted(catalog.fetch(f"SELECT * {drop} FROM {table}"), key=str)
        return found


def logprobs(folder: Path) -> dict[str, float]:
    with Catalog(Store.open(str(folder / "seal-store"), create=False)) as catalog:
        rows = catalog.fetch("SELECT answer_id, logprob FROM answers WHERE logprob IS NOT NULL")
        return dict(rows)  # pyright: ignore[reportArgumentType]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, generator: VllmGenerator) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    generator.generate([GenerateRequest("start", "A")])
    server = generator._server
    assert server is not None
    urls = f'engine.servers=["{server.url}"]'
    finish(start(folder, *VLLM, "--set", urls, key=server.api_key))
    assert not list(folder.rglob("vllm.log"))
    return folder


def test_a_run_gives_the_answers_of_the_transformers_engine(
    undisturbed: Path, tmp_path: Path
) -> None:
    """1"""
    finish(start(tmp_path))
    mine, right = tables(undisturbed), tables(tmp_path)
    for table in TABLES:
        assert mine[table] == right[table], table
    assert len(mine["answers"]) > 100
    assert not [row for row in mine["answers"] if row[-1] is not None]
    assert logprobs(undisturbed) == pytest.approx(logprobs(tmp_path), rel=1e-4, abs=1e-3)


def test_a_server_killed_in_the_middle_loses_nothing(
    undisturbed: Path, tmp_path: Path, vllm_python: str
) -> None:
    """2"""
    process = start(tmp_path, *OWN, "--set", f"engine.python={vllm_python}")
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("finetune heldout round_0"):
            break
    else:
        finish(process)
    killed = server_of(process.pid)
    os.kill(killed, signal.SIGKILL)
    finish(process)
    log = next((tmp_path / "seal-store").rglob("vllm.log")).read_text()
    assert "SEAL: the server ended by SIGKILL" in log
    assert tables(tmp_path) == tables(undisturbed)


def server_of(run: int) -> int:
    """The process of the vLLM server that a run has started."""
    deadline = time.monotonic() + HUNG
    while time.monotonic() < deadline:
        for guard in children(run):
            # The run's Prefect server has a guard too.
            if b"vllm.entrypoints" in Path(f"/proc/{guard}/cmdline").read_bytes():
                return children(guard)[0]
        time.sleep(0.1)
    raise AssertionError("the run has no vLLM server")


def children(pid: int) -> list[int]:
    """Child processes, whichever thread started them."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]
