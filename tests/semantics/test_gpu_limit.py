"""The server's `gpu` limit, with scripted engines on a real Prefect server.

1. Without a limit on the server, two runs on a GPU work at the same time: nothing waits.
2. With a limit of 1, one run's first engine call comes after the other's last.
3. A run on a CPU does not wait for the limit, and neither does a run that is all cached.
4. A signal ends the wait for it, and the run says that it waits.
5. What counts as a GPU.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.concurrency.sync import concurrency
from rich.console import Console

import tasks.opening.preflight
from flows.loading import load_config
from flows.progress import PlainProgress
from flows.seal_flow import run_rounds
from seal_core.config import Config
from tasks.opening.preflight import preflight
from tasks.running.gpu import uses_gpu
from tests.models import save_qwen2
from tests.semantics.scripted import Scripted, write_problems
from tests.waiting import HUNG

ROOT = Path(__file__).parents[2]
Run = Callable[..., None]
WITHOUT_CHECK = """
import tasks.opening.preflight as preflight
preflight.check_fit = lambda *_: None
from flows.cli import main
main()
"""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    save_qwen2(folder / "model")
    write_problems(folder / "data.json", 4)
    return folder


@pytest.fixture
def run(inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    # There is no GPU here, of which the check would tell.
    monkeypatch.setattr(tasks.opening.preflight, "check_fit", lambda *_: None)

    def start(name: str, hook: Callable[[], None], device: str = "cuda") -> None:
        settings = {
            "data.path": inputs / "data.json",
            "model.path": inputs / "model",
            "execution.store": tmp_path / name,
            "execution.shard_size": 1,
            "execution.device": device,
            "heldout.controls": "false",
            "run.rounds": 0,
        }
        overrides = [f"{key}={value}" for key, value in settings.items()]
        checked = preflight(load_config(ROOT / "configs/squad.toml", overrides), name)
        engine = Scripted(lambda *_: hook())
        progress = PlainProgress(Console(quiet=True))
        flow(lambda: run_rounds(checked, progress, engine.open), name="test")()

    return start


@pytest.fixture
def limit() -> Iterator[None]:
    with get_client(sync_client=True) as client:
        client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name="gpu", limit=1))
        yield
        client.delete_global_concurrency_limit_by_name("gpu")


def both(run: Run, hooks: Sequence[Callable[[], None]], **settings: Any) -> None:
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(run, f"run-{i}", hook, **settings) for i, hook in enumerate(hooks)]
        for job in jobs:
            job.result(timeout=HUNG)


def meeting() -> list[Callable[[], None]]:
    """Hooks that wait, at their first call, until the other run's engine is called too."""
    barrier = threading.Barrier(2)
    met: set[int] = set()

    def hook(me: int) -> None:
        if me not in met:
            met.add(me)
            barrier.wait(HUNG)

    return [lambda me=i: hook(me) for i in range(2)]


def test_without_a_limit_nothing_waits(run: Run) -> None:
    """1"""
    both(run, meeting())


def test_two_runs_do_not_share_a_gpu(run: Run, limit: None) -> None:
    """2"""
    calls: list[tuple[int, float]] = []

    def hook(me: int) -> None:
        calls.append((me, time.monotonic()))
        time.sleep(0.1)

    both(run, [lambda me=i: hook(me) for i in range(2)])
    order = [me for me, _ in sorted(calls, key=lambda call: call[1])]
    assert set(order) == {0, 1}
    assert order in (sorted(order), sorted(order, reverse=True))


def test_a_cpu_and_a_cached_run_do_not_wait(run: Run, limit: None) -> None:
    """3"""
    both(run, meeting(), device="cpu")
    with concurrency("gpu"):
        run("run-0", lambda: pytest.fail("a cached run calls no engine"), device="cuda")


def test_a_signal_ends_the_wait(limit: None, tmp_path: Path) -> None:
    """4"""
    with concurrency("gpu"), get_client(sync_client=True) as client:
        process = subprocess.Popen(
            [
                *(sys.executable, "-c", WITHOUT_CHECK, "run"),
                *(str(ROOT / "configs/demo.toml"), "--set", "execution.device=cuda"),
            ],
            cwd=tmp_path,
            env={**os.environ, "PREFECT_API_URL": str(client.api_url)},
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        waits = "note: waiting for the GPU: the limit 'gpu' is taken"
        assert next((line for line in process.stderr if line.startswith(waits)), None)
        process.send_signal(signal.SIGTERM)
        _, rest = process.communicate(timeout=HUNG)
    assert process.returncode == 143, rest
    assert "go on with: seal run" in rest


@pytest.mark.parametrize(
    ("settings", "visible", "expected"),
    [
        ({"execution": {"device": "cpu"}}, None, False),
        ({"execution": {"device": "cuda:1"}}, None, True),
        ({"execution": {"device": "auto"}}, "", False),
        ({"execution": {"device": "auto"}}, None, any(Path("/dev").glob("nvidia[0-9]*"))),
        ({"execution": {"device": "cpu"}, "engine": {"kind": "vllm", "gpus": "0"}}, None, True),
    ],
)
def test_what_counts_as_a_gpu(
    settings: dict[str, Any],
    visible: str | None,
    expected: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """5"""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert uses_gpu(Config.model_validate(settings)) is expected
