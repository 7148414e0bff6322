"""The vLLM engine against a scripted server: each request its adapter, and no answer is lost.

What a real vLLM answers is tested in tests/vllm.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from seal_core.engines import vllm_client
from seal_core.engines.base import GenerateRequest, Generation, ScoreRequest
from seal_core.engines.vllm_generator import VllmGenerator
from seal_core.engines.vllm_options import VllmOptions
from seal_core.errors import EngineError
from tests import scripted_vllm

ROOT = Path(__file__).parents[3]
Opener = Callable[..., VllmGenerator]


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of the scripted server's plan and log."""
    scripted_vllm.install(tmp_path / "site")
    folder = tmp_path / "script"
    folder.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    monkeypatch.setenv(scripted_vllm.FOLDER, str(folder))
    monkeypatch.setattr(vllm_client, "RETRY_SECONDS", (0.05, 0.1, 0.2))
    return folder


@pytest.fixture
def open_vllm(script: Path, model_path: str, tmp_path: Path) -> Iterator[Opener]:
    opened: list[VllmGenerator] = []

    def start(timeout: float | None = 60, **options: Any) -> VllmGenerator:
        values = {
            "python": sys.executable,
            "adapter_folder": str(tmp_path / "adapters"),
            "max_rank": 16,
            "start_timeout": 30.0,
            "request_timeout": 5.0,
            **options,
        }
        generator = VllmGenerator(VllmOptions(model_path, **values), tmp_path / "log", timeout)
        opened.append(generator)
        return generator

    yield start
    for generator in opened:
        generator.close()
    assert list((tmp_path / "adapters").iterdir()) == []


def wave(adapters: dict[str, str], n: int = 4) -> list[GenerateRequest]:
    """`n` requests for each of four stacks, the base model included."""
    wide, mlp = adapters["wide"], adapters["mlp"]
    stacks = [(), (adapters["small"],), (wide,), (wide, mlp)]
    return [
        GenerateRequest(f"{s}-{i}", f"prompt {i}", stack, max_tokens=20, seed=i)
        for i in range(n)
        for s, stack in enumerate(stacks)
    ]


def texts(answers: list[Generation]) -> list[str | None]:
    assert [answer.error for answer in answers] == [None] * len(answers)
    return [answer.text for answer in answers]


def paths(script: Path) -> Counter[str]:
    return Counter(request["path"] for request in scripted_vllm.requests(script))


def test_each_request_is_answered_with_its_own_adapters(open_vllm, script, adapters) -> None:
    requests = wave(adapters)
    done: list[int] = []
    answers = open_vllm(adapter_slots=4).generate(requests, done.append)
    assert [answer.request_id for answer in answers] == [request.request_id for request in requests]
    assert sum(done) == len(requests)
    assert all(
        (answer.text or "")[1:] == r.prompt for answer, r in zip(answers, requests, strict=True)
    )
    first = {
        request.adapters: answer.text[0]
        for request, answer in zip(requests, answers, strict=True)
        if answer.text
    }
    assert len(set(first.values())) == 4
    assert all(
        (a.text or "")[0] == first[r.adapters] for a, r in zip(answers, requests, strict=True)
    )
    one = answers[0]
    assert (one.n_prompt_tokens, one.n_tokens, one.logprob) == (8, 10, -5.0)
    sent = [r["body"] for r in scripted_vllm.requests(script) if r["path"] == "completions"]
    assert sorted(body["seed"] for body in sent) == sorted(r.seed for r in requests)
    assert all(body["stop_token_ids"] == [256] and body["top_k"] == 0 for body in sent)


def test_adapters_are_unloaded_and_never_more_than_the_slots(open_vllm, script, adapters) -> None:
    generator = open_vllm(adapter_slots=2)
    generator.generate(wave(adapters))
    generator.generate(wave(adapters))
    log = scripted_vllm.requests(script)
    assert max(len(request["loaded"]) for request in log) == 2
    loaded = [r["body"]["lora_name"] for r in log if r["path"] == "load_lora_adapter"]
    unloaded = [r["body"]["lora_name"] for r in log if r["path"] == "unload_lora_adapter"]
    assert sorted(loaded) == sorted(unloaded)
    assert set(Counter(loaded).values()) == {2}
    assert not any(Path(r["body"]["lora_path"]).exists() for r in log if "lora_path" in r["body"])


def test_several_threads_share_an_adapter(open_vllm, script, adapters) -> None:
    generator = open_vllm()
    requests = [GenerateRequest(str(i), f"{i}", (adapters["wide"],)) for i in range(20)]
    expected = texts(generator.generate(requests))
    results: list[list[str | None]] = []
    threads = [
        threading.Thread(target=lambda: results.append(texts(generator.generate(requests))))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [expected] * 4
    assert paths(script)["load_lora_adapter"] == paths(script)["unload_lora_adapter"] <= 5


@pytest.mark.parametrize("fault", ["503", "429", "500", "drop", "lose"])
def test_what_passes_is_tried_again(open_vllm, script, adapters, fault) -> None:
    expected = texts(open_vllm().generate(wave(adapters)))
    for count in script.glob("count-*"):
        count.unlink()
    scripted_vllm.plan(script, completions={3: fault, 4: fault}, load_lora_adapter={1: fault})
    assert texts(open_vllm().generate(wave(adapters))) == expected
    assert int((script / "count-start").read_text()) == 1


@pytest.mark.parametrize("status", ["400", "422"])
def test_a_refused_request_is_its_own_error(open_vllm, script, adapters, status) -> None:
    scripted_vllm.plan(script, completions={5: status})
    answers = open_vllm().generate(wave(adapters))
    (failed,) = [answer for answer in answers if answer.error]
    assert failed.text is None and failed.logprob is None
    assert f"planned {status}" in (failed.error or "")


def test_an_answer_that_is_not_finite_is_an_error(open_vllm, script, adapters) -> None:
    scripted_vllm.plan(script, completions={5: "nan"})
    answers = open_vllm().generate(wave(adapters))
    (failed,) = [answer for answer in answers if answer.error]
    assert (failed.text, failed.logprob) == (None, None)
    assert "not finite" in (failed.error or "")


def test_a_lasting_500_on_a_healthy_server_is_an_error_of_the_request(open_vllm, script) -> None:
    scripted_vllm.plan(script, completions={"all": "500"})  # pyright: ignore[reportArgumentType]
    (answer,) = open_vllm().generate([GenerateRequest("a", "x")])
    assert answer.text is None
    assert "HTTP 500: planned 500" in (answer.error or "")


@pytest.mark.parametrize("fault", ["die", "hang", "abort"])
def test_a_server_that_fails_is_restarted_once(open_vllm, script, adapters, fault) -> None:
    expected = texts(open_vllm(request_timeout=0.5).generate(wave(adapters)))
    (script / "requests.jsonl").unlink()
    for count in script.glob("count-*"):
        count.unlink()
    # Ten requests hang in each of their four attempts.
    times = range(6, 46) if fault == "hang" else [6]
    scripted_vllm.plan(script, completions=dict.fromkeys(times, fault))
    assert texts(open_vllm(request_timeout=0.5).generate(wave(adapters))) == expected
    assert int((script / "count-start").read_text()) == 2


def test_a_second_death_in_one_call_is_an_engine_error(open_vllm, script, adapters) -> None:
    scripted_vllm.plan(script, completions={6: "die", 14: "die"})
    generator = open_vllm()
    with pytest.raises(EngineError, match=r"failed twice(.|\n)*scripted engine was told to die"):
        generator.generate(wave(adapters, 8))
    # The shard is tried again later, with a server that is started anew.
    assert len(texts(generator.generate(wave(adapters)))) == 16


def test_a_server_that_does_not_start_says_why(open_vllm, script) -> None:
    scripted_vllm.plan(script, start={0: "ValueError: no memory for the cache"})
    generator = open_vllm()
    with pytest.raises(EngineError, match=r"did not start(.|\n)*no memory for the cache"):
        generator.generate([GenerateRequest("a", "x")])
    assert len(texts(generator.generate([GenerateRequest("a", "x")]))) == 1


def test_a_call_has_a_time_limit(open_vllm, script) -> None:
    scripted_vllm.plan(script, completions={0: "hang"})
    with pytest.raises(EngineError, match=r"ended after 3 s"):
        open_vllm(timeout=3, request_timeout=60.0).generate([GenerateRequest("a", "x")])


def test_closing_ends_a_call(open_vllm, script) -> None:
    scripted_vllm.plan(script, completions={0: "hang"})
    generator = open_vllm(request_timeout=60.0)
    closer = threading.Timer(3, generator.close)
    closer.start()
    with pytest.raises(EngineError, match=r"closed|failed"):
        generator.generate([GenerateRequest("a", "x")])
    closer.join()
    with pytest.raises(EngineError, match="closed"):
        generator.generate([GenerateRequest("a", "x")])


def test_bad_requests_and_adapters_are_errors_of_their_own(
    open_vllm, adapters, make_adapter, make_model, tmp_path
) -> None:
    broken = make_adapter(tmp_path / "nan", make_model(tmp_path / "m"), 5)
    weights = load_file(f"{broken}/adapter_model.safetensors")
    next(iter(weights.values()))[0, 0] = float("nan")
    save_file(weights, f"{broken}/adapter_model.safetensors")
    huge = make_adapter(tmp_path / "huge", make_model(tmp_path / "o"), 8)
    scaled = {n: w * 1e9 for n, w in load_file(f"{huge}/adapter_model.safetensors").items()}
    save_file(scaled, f"{huge}/adapter_model.safetensors")
    other = make_adapter(tmp_path / "other", make_model(tmp_path / "n", hidden_size=64), 6)
    large = make_adapter(tmp_path / "large", make_model(tmp_path / "l"), 7, r=24)
    head = make_adapter(
        tmp_path / "head", make_model(tmp_path / "h"), 7, target_modules=["q_proj", "lm_head"]
    )
    requests = [
        GenerateRequest("fine", "x", (adapters["small"],)),
        GenerateRequest("nan", "x", (adapters["small"], broken)),
        GenerateRequest("huge", "x", (huge,)),
        GenerateRequest("other", "x", (other,)),
        GenerateRequest("rank", "x", (large,)),
        GenerateRequest("head", "x", (head,)),
        GenerateRequest("missing", "x", (str(tmp_path / "none"),)),
        GenerateRequest("long", "x" * 128),
        GenerateRequest("tokens", "x", max_tokens=0),
    ]
    answers = {answer.request_id: answer for answer in open_vllm().generate(requests)}
    words = {
        "nan": "NaN or infinite",
        "huge": "NaN or infinite",
        "other": "made for another model",
        "rank": "rank 24",
        "head": "lm_head",
        "missing": "cannot read",
        "long": "128 tokens",
        "tokens": "max_tokens is 0",
    }
    assert answers["fine"].error is None
    for name, word in words.items():
        assert answers[name].text is None
        assert word in (answers[name].error or ""), answers[name]


def test_scores_are_those_of_the_completion(open_vllm, adapters) -> None:
    requests = [
        ScoreRequest("a", "Hello", " you", (adapters["small"],)),
        ScoreRequest("b", "Hello", ""),
        ScoreRequest("c", "x" * 100, "y" * 28),
    ]
    fine, empty, long = open_vllm().score(requests)
    assert (fine.logprob, fine.n_tokens, fine.error) == (-1.0, 4, None)
    assert empty.logprob is None and "no tokens" in (empty.error or "")
    assert long.logprob is None and "128 tokens" in (long.error or "")


@pytest.fixture
def running(script: Path, model_path: str, monkeypatch) -> Iterator[Callable[[int], str]]:
    """Starts scripted servers that the engine does not own, on a port or any."""
    monkeypatch.setenv("VLLM_API_KEY", "secret")
    started: list[subprocess.Popen[str]] = []

    def start(port: int = 0) -> str:
        code = (
            "import sys; from tests.scripted_vllm import serve; "
            "s = serve(int(sys.argv[1]), sys.argv[2]); print(s.server_port, flush=True); "
            "s.serve_forever()"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(port), model_path],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        return f"http://127.0.0.1:{process.stdout.readline().strip()}"

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_running_servers_share_the_work(open_vllm, running, script, adapters) -> None:
    generator = open_vllm(servers=(running(), running()))
    alone = [GenerateRequest(str(i), f"{i}", (adapters["wide"],)) for i in range(10)]
    assert len(texts(generator.generate(alone))) == 10
    loads = [r for r in scripted_vllm.requests(script) if r["path"] == "load_lora_adapter"]
    assert len(loads) == 2


def test_a_running_server_that_dies_is_an_engine_error(open_vllm, running, script) -> None:
    url = running()
    generator = open_vllm(servers=(url,))
    scripted_vllm.plan(script, completions={0: "die"})
    with pytest.raises(EngineError, match=url):
        generator.generate([GenerateRequest("a", "x")])
    scripted_vllm.plan(script)
    running(int(url.rpartition(":")[2]))
    assert texts(generator.generate([GenerateRequest("a", "x")]))[0] is not None


def test_a_running_server_that_lost_its_adapters_gets_them_again(
    open_vllm, running, script, adapters
) -> None:
    generator = open_vllm(servers=(running(),))
    expected = texts(generator.generate(wave(adapters)))
    for count in script.glob("count-*"):
        count.unlink()
    scripted_vllm.plan(script, completions={7: "forget"})
    assert texts(generator.generate(wave(adapters))) == expected


CHILD = """
import sys
from pathlib import Path
from seal_core.engines.base import GenerateRequest
from seal_core.engines.vllm_generator import VllmGenerator
from seal_core.engines.vllm_options import VllmOptions
folder = Path(sys.argv[2])
options = VllmOptions(sys.argv[1], python=sys.executable, adapter_folder=str(folder / "adapters"))
generator = VllmGenerator(options, folder / "log")
generator.generate([GenerateRequest("a", "x")])
print(generator._server._guard.pid, flush=True)
sys.stdin.read()
"""


def test_the_server_ends_with_a_killed_parent(script, model_path, tmp_path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, model_path, str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{os.environ['PYTHONPATH']}"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        group = int(child.stdout.readline())
        assert group_members(group)
        child.kill()
    deadline = time.monotonic() + 15
    while (group_members(group) or list((tmp_path / "adapters").iterdir())) and (
        time.monotonic() < deadline
    ):
        time.sleep(0.1)
    assert group_members(group) == []
    assert list((tmp_path / "adapters").iterdir()) == []


def test_the_server_ends_when_its_guard_is_killed(open_vllm, script) -> None:
    generator = open_vllm()
    generator.generate([GenerateRequest("a", "x")])
    guard = generator._server._guard
    assert guard is not None
    os.kill(guard.pid, signal.SIGKILL)
    generator.close()
    assert group_members(guard.pid) == []


def group_members(group: int) -> list[int]:
    """Living processes of a process group."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[2]) == group and fields[0] != "Z":
                found.append(int(entry.name))
    return found
