"""What a flow run leaves on the Prefect server, with scripted engines on a real server.

1. Results and stages of a run, under keys that Prefect allows; cached and executed shards.
2. A run that fails leaves them too.
3. A server that refuses them, or a store that cannot be read, stops nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect import State, flow
from prefect.artifacts import MarkdownArtifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

import flows.views.artifacts
from flows.seal_flow import run_rounds
from flows.views.artifacts import artifact_key, reported
from seal_core.errors import EngineError, StoreError
from tasks.opening.preflight import preflight
from tests.semantics.conftest import Runner
from tests.semantics.scripted import Scripted

NAME = "My_run.1"


def start(run: Runner, store: Path, engine: Scripted) -> State[Any]:
    checked = preflight(run.config({}), NAME)

    def body() -> None:
        with reported(NAME, str(store)) as progress:
            run_rounds(checked, progress, engine.open)

    return flow(body, name="test")(return_state=True)


def left_by(state: State[Any]) -> dict[str, Any]:
    """Data of the artifacts of a flow run, by key."""
    run_id = state.state_details.flow_run_id
    assert run_id is not None
    wanted = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run_id]))
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(artifact_filter=wanted)
    return {str(item.key): item.data for item in found}


def executed(data: str) -> list[tuple[str, int, int]]:
    return [(row["stage"], row["cached"], row["executed"]) for row in json.loads(data)]


def test_results_and_stages_are_left(run: Runner, store: Path) -> None:
    """1"""
    first = left_by(start(run, store, Scripted()))
    again = left_by(start(run, store, Scripted()))
    assert first.keys() == again.keys() == {"seal-results-my-run-1", "seal-stages-my-run-1"}
    assert ("finetune round_0", 0, 3) in executed(first["seal-stages-my-run-1"])
    assert ("finetune round_0", 3, 0) in executed(again["seal-stages-my-run-1"])
    report = first["seal-results-my-run-1"]
    assert "| round_1 | 2 |" in report
    assert f"seal results {NAME} --store {store}" in report


def test_a_failed_run_leaves_them_too(run: Runner, store: Path) -> None:
    """2"""

    def break_down(name: str, items: Sequence[Any]) -> None:
        if name == "train":
            raise EngineError("out of memory")

    state = start(run, store, Scripted(break_down))
    assert state.is_failed()
    data = left_by(state)["seal-stages-my-run-1"]
    assert [row[0] for row in executed(data)] == ["evaluate baseline", "sample heldout round_0"]


def test_a_refusal_stops_nothing(run: Runner, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """3"""

    def refuse(*_: object, **__: object) -> None:
        raise httpx.ConnectError("the server is gone")

    monkeypatch.setattr(MarkdownArtifact, "create", refuse)
    state = start(run, store, Scripted())
    assert state.is_completed()
    assert left_by(state) == {}


@pytest.mark.parametrize("error", [StoreError("it is compacted"), OSError("no room")])
def test_an_unreadable_store_stops_nothing(
    run: Runner, store: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """3"""

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(flows.views.artifacts, "Catalog", fail)
    state = start(run, store, Scripted())
    assert state.is_completed()
    assert str(error) in left_by(state)["seal-results-my-run-1"]


@pytest.mark.parametrize("name", ["a", "A.b_c-D", "9__", "x" * 100])
def test_keys_are_allowed(name: str) -> None:
    """1"""
    assert set(artifact_key(name)) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
