"""A small run with scripted engines on a real Prefect server and a real store."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from prefect import flow
from prefect.flow_engine import BaseFlowRunEngine
from rich.console import Console

from flows.loading import load_config
from flows.planning import RunPlan, plan_run
from flows.progress import PlainProgress
from flows.seal_flow import run_rounds
from seal_core.config import Config
from tasks.opening.preflight import preflight
from tests.models import save_qwen2
from tests.semantics.runs import N_HELDOUT, N_TRAIN, ROOT, K
from tests.semantics.scripted import Scripted, write_problems


@pytest.fixture(scope="session", autouse=True)
def no_heartbeats() -> Iterator[None]:
    """Each flow run waits up to a second for the end of its heart's sleep."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BaseFlowRunEngine, "heartbeat_seconds", None)
        yield


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    save_qwen2(folder / "model")
    write_problems(folder / "data.json", N_TRAIN + N_HELDOUT)
    return folder


class Notes(PlainProgress):
    """Progress that keeps what the user is told."""

    def __init__(self) -> None:
        super().__init__(Console(quiet=True))
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)


class Runner:
    """Starts runs in one store, or plans them; `notes` are what the last one told the user."""

    def __init__(self, inputs: Path, store: Path) -> None:
        self.notes: list[str] = []
        self._values = {
            "data.path": inputs / "data.json",
            "model.path": inputs / "model",
            "execution.store": store,
            "sample.edits_per_problem": K,
            "finetune.repeats": 1,
            "execution.shard_size": 2,
            "execution.shard_retries": 0,
            "run.rounds": 1,
        }

    def __call__(
        self,
        engine: Scripted | None = None,
        name: str = "a",
        fork: str | None = None,
        **settings: Any,
    ) -> Scripted:
        """Runs to the end; returns the engine, which knows what it was asked."""
        config = self.config(settings)
        engine = engine or Scripted()
        progress = Notes()
        self.notes = progress.notes
        flow(
            lambda: run_rounds(preflight(config, name), progress, engine.open, fork), name="test"
        )()
        return engine

    def plan(self, name: str = "a", fork: str | None = None, **settings: Any) -> RunPlan:
        """The plan of the same run."""
        return plan_run(preflight(self.config(settings), name), fork)

    def config(self, settings: Mapping[str, Any]) -> Config:
        """The small config with settings as `section__key`."""
        values = self._values | {k.replace("__", "."): v for k, v in settings.items()}
        return load_config(ROOT / "configs/squad.toml", [f"{k}={v}" for k, v in values.items()])


@pytest.fixture
def run(inputs: Path, store: Path) -> Runner:
    return Runner(inputs, store)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture(scope="module")
def finished(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of a finished run; tests work on copies."""
    store = tmp_path_factory.mktemp("finished") / "store"
    Runner(inputs, store)()
    return store


@pytest.fixture
def done(finished: Path, store: Path, run: Runner) -> Runner:
    """A run that is finished in a store of the test's own."""
    shutil.copytree(finished, store)
    return run
