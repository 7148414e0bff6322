"""An engine's process answers, can be ended at any moment, and never outlives its parent."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from seal_core.engines import (
    GenerateRequest,
    LoraSettings,
    ScoreRequest,
    TrainJob,
    TrainRow,
)
from seal_core.errors import EngineError, InputError
from seal_core.generation.transformers_generator import TransformersGenerator
from seal_core.models.files.model_digest import digest_model
from seal_core.process import wire
from seal_core.process.pool import EnginePool, PooledGenerator, PooledTrainer
from seal_core.process.process import EngineProcess
from seal_core.process.spec import EngineSpec
from tests.waiting import eventually

LONG = tuple(GenerateRequest(str(i), "x", max_tokens=100, temperature=1.0) for i in range(20_000))


@pytest.fixture(scope="module")
def pool(model_path, tmp_path_factory) -> Iterator[EnginePool]:
    with EnginePool(1, EngineSpec(model_path, device="cpu"), tmp_path_factory.mktemp("l")) as pool:
        yield pool


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def await_end(pid: int) -> bool:
    return eventually(lambda: not alive(pid))


def test_messages_arrive_as_they_were_sent() -> None:
    job = TrainJob("a", (TrainRow("é\ud800"), TrainRow("b", "p", True)), LoraSettings(), 2**62)
    value = {"jobs": [job], "out": None, "x": [1.5, True, "s"]}
    assert wire.unpack(wire.pack(value)) == value
    with pytest.raises(TypeError, match="object cannot be sent"):
        wire.pack({"a": object()})


def test_a_model_is_tried_without_staying_loaded(pool, model_path, tmp_path) -> None:
    assert pool.call("try_model", {}) is None
    lacking = EngineSpec(model_path, device="cpu", targets=("nope",))
    with EnginePool(1, lacking, tmp_path) as other:
        for call in ("try_model", "open"):
            with pytest.raises(InputError, match=r"target 'nope' .* names no linear layer"):
                other.call(call, {})


def test_all_calls_work_and_report_progress(pool, loaded, tmp_path) -> None:
    requests = [GenerateRequest("a", "Hello", max_tokens=5), GenerateRequest("b", "")]
    done: list[int] = []
    answers = PooledGenerator(pool).generate(requests, done.append)
    assert answers == TransformersGenerator(loaded).generate(requests)
    assert sum(done) == 2
    (score,) = PooledGenerator(pool).score([ScoreRequest("s", "Hello", " you")])
    assert score.logprob is not None
    job = TrainJob("one", (TrainRow("text"),), LoraSettings(rank=2, epochs=2), seed=1)
    (trained,) = PooledTrainer(pool).train([job], tmp_path, done.append)
    assert trained.error is None and Path(trained.path or "").is_dir() and sum(done) == 3
    updated = PooledTrainer(pool).update_policy(
        [TrainRow("text", "prompt")], job.settings, 1, tmp_path / "policy"
    )
    assert updated.path == str(tmp_path / "policy") and updated.n_steps == 2


def test_a_refused_call_leaves_the_process_running(pool) -> None:
    pool.call("open", {})
    pid = pool._processes[0].pid
    with pytest.raises(InputError, match="no call"):
        pool.call("dance", {})
    assert pool._processes[0].pid == pid


def test_a_failure_is_an_engine_error_and_heals(pool) -> None:
    with pytest.raises(EngineError, match=r"generate failed: TypeError"):
        pool.call("generate", {"no_such": 1})
    assert "device" in pool.call("open", {})


def test_a_killed_process_is_an_engine_error_and_heals(pool) -> None:
    pool.call("open", {})
    pid = pool._processes[0].pid
    with pytest.raises(EngineError, match=r"generate: the engine ended by SIGKILL"):
        PooledGenerator(pool).generate(LONG, lambda _: os.kill(pid, signal.SIGKILL))
    assert PooledGenerator(pool).generate([GenerateRequest("a", "Hello", max_tokens=2)])[0].text
    pid = pool._processes[0].pid
    os.kill(pid, signal.SIGKILL)  # Also between two calls.
    child = pool._processes[0]._process
    assert eventually(lambda: child.poll() is not None)  # All of its threads have ended.
    assert "device" in pool.call("open", {})


def test_a_call_past_its_time_is_ended(pool) -> None:
    pool.call("open", {})
    pid = pool._processes[0].pid
    with pytest.raises(EngineError, match=r"generate was ended after 0.5 s"):
        PooledGenerator(pool, timeout=0.5).generate(LONG)
    assert not alive(pid)


def test_closing_ends_a_call_under_way(model_path, tmp_path) -> None:
    pool = EnginePool(1, EngineSpec(model_path, device="cpu"), tmp_path)
    pool.call("open", {})
    pid = pool._processes[0].pid
    under_way = threading.Event()
    closer = threading.Thread(target=lambda: under_way.wait() and pool.close())
    closer.start()
    with pytest.raises(EngineError):
        PooledGenerator(pool).generate(LONG, lambda _: under_way.set())
    closer.join()
    assert await_end(pid)
    with pytest.raises(EngineError, match="closed"):
        pool.call("open", {})


def test_a_child_that_cannot_start_shows_its_log(model_path, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(sys, "path", [p for p in sys.path if "site-packages" not in p])
    process = EngineProcess(EngineSpec(model_path), tmp_path / "engine.log")
    with pytest.raises(EngineError, match=r"(?s)exit code 1.*No module named"):
        process.call("open", {})


def test_a_missing_model_is_the_users_error(tmp_path) -> None:
    with (
        EnginePool(1, EngineSpec(str(tmp_path)), tmp_path) as pool,
        pytest.raises(InputError, match=r"config\.json"),
    ):
        pool.call("open", {})


@pytest.mark.parametrize("how", ["exit", "kill", "kill before it reads an answer"])
def test_no_child_outlives_its_parent(model_path, tmp_path, how) -> None:
    script = f"""
import os, select, signal, sys, threading
from pathlib import Path
from seal_core.process.pool import EnginePool, PooledGenerator
from seal_core.process.spec import EngineSpec
from seal_core.engines import GenerateRequest
from seal_core.models.files.model_digest import digest_model
from seal_core.process import wire
assert "torch" not in sys.modules
pool = EnginePool(1, EngineSpec({model_path!r}, device="cpu"), Path({str(tmp_path)!r}))
pool.call("open", {{}})
long = [GenerateRequest(str(i), "x", max_tokens=100, temperature=1.0) for i in range(20000)]
if {how!r}.endswith("answer"):
    connection = pool._processes[0]._connection
    wire.send(connection, {{"call": "open", "payload": {{}}}})
    select.select([connection], [], [])
else:
    begun = threading.Event()
    call = (long, lambda _: begun.set())
    threading.Thread(target=PooledGenerator(pool).generate, args=call, daemon=True).start()
    begun.wait()
print(pool._processes[0].pid, flush=True)
if {how!r}.startswith("kill"):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout, done.stderr
    assert await_end(int(done.stdout))


def test_a_model_that_is_not_the_one_digested_is_not_used(model_path, tmp_path) -> None:
    folder = shutil.copytree(model_path, tmp_path / "model")
    spec = EngineSpec(str(folder), device="cpu", files=digest_model(str(folder)))
    (folder / "generation_config.json").write_text('{"eos_token_id": 1}')
    process = EngineProcess(spec, tmp_path / "log")
    try:
        with pytest.raises(InputError, match=r"changed while .*other: generation_config\.json"):
            process.call("open", {})
    finally:
        process.close()
