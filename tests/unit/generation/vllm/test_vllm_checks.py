"""What is wrong with vLLM is said before any work, with the fix."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from flows.views.health import vllm_check, vllm_server_check
from seal_core.config import Config, EngineSection
from seal_core.errors import InputError
from seal_core.generation.vllm.checks import check_server, check_vllm, server_version
from seal_core.generation.vllm.engine import VllmEngine
from seal_core.generation.vllm.options import (
    VllmInstall,
    VllmOptions,
    find_python,
    find_vllm,
    served_rank,
    server_command,
    server_environment,
)
from seal_core.logs import log_causes
from tasks.opening.serving import model_in_use, server_share
from tests import scripted_vllm

MODEL = "/models/Qwen2.5-7B"
CARD = {"id": "base", "root": MODEL, "parent": None}


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """Serves one list of models, and says how loading without a name ends."""
    started: list[ThreadingHTTPServer] = []

    def start(
        models: int = 200, loading: int = 400, cards: Any = (CARD,), said: str | None = "0.32.0"
    ) -> str:
        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: Any) -> None: ...

            def reply(self, status: int) -> None:
                self.send({"data": list(cards)}, status)

            def send(self, answer: Any, status: int = 200) -> None:
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def do_GET(self) -> None:
                if self.path == "/version" and said is not None:
                    return self.send({"version": said})
                return self.reply(models)

            def do_POST(self) -> None:
                self.reply(loading)

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        started.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in started:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("name", ["base", MODEL, "/elsewhere/Qwen2.5-7B", "Qwen/Qwen2.5-7B"])
def test_a_server_of_the_same_model_will_do(serve, name) -> None:
    assert check_server(serve(), (name,)) == "base"
    assert check_server(serve()) == "base"


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ({"models": 401}, ["API key", "VLLM_API_KEY"]),
        ({"models": 500}, ["does not answer as a vLLM server"]),
        ({"cards": ()}, ["does not answer as a vLLM server"]),
        ({"cards": ({"id": "gpt", "root": "/gpt"},)}, ["serves gpt", "--served-model-name"]),
        ({"loading": 404}, ["--enable-lora", "VLLM_ALLOW_RUNTIME_LORA_UPDATING"]),
    ],
)
def test_a_server_that_will_not_do_is_named_with_the_fix(serve, answers, words) -> None:
    url = serve(**answers)
    with pytest.raises(InputError) as error:
        check_server(url, (MODEL,))
    assert all(word in str(error.value) for word in [url, *words])


def test_the_versions_that_answer_are_asked_for(serve, tmp_path, monkeypatch) -> None:
    urls = (serve(), serve(said="0.31.0"), serve(), serve(said=None))
    assert check_vllm(VllmOptions(MODEL, servers=urls)) == "0.31.0, 0.32.0, unknown"
    scripted_vllm.install(tmp_path / "site")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    assert check_vllm(VllmOptions(MODEL, python=sys.executable)) == "0.32.0"
    assert VllmInstall("py", "0.32.0", cpu=True).build == "0.32.0+cpu"
    with pytest.raises(InputError, match="cannot be reached"):
        server_version("http://127.0.0.1:9")


def test_doctor_says_what_is_there(serve, tmp_path, monkeypatch) -> None:
    url = serve()
    assert vllm_server_check(url).state == "ok"
    lost = vllm_server_check("http://127.0.0.1:9")
    assert lost.state == "fail" and lost.fix
    monkeypatch.setenv("SEAL_VLLM_PYTHON", sys.executable)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "none"))
    missing = vllm_check()
    assert missing.state == "warn" and "not installed" in missing.found
    scripted_vllm.install(tmp_path / "site")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    found = vllm_check()
    assert (found.state, found.fix) == ("ok", None) and "0.32.0" in found.found
    scripted_vllm.install(tmp_path / "old", "0.20.0")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "old"))
    assert vllm_check().state == "warn"


def test_the_interpreter_is_looked_for_in_order(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SEAL_VLLM_PYTHON", raising=False)
    assert find_python("") == sys.executable
    local = tmp_path / ".venv-vllm/bin/python"
    local.parent.mkdir(parents=True)
    local.touch()
    assert find_python("") == str(local)
    monkeypatch.setenv("SEAL_VLLM_PYTHON", "/from/environment")
    assert find_python("") == "/from/environment"
    assert find_python("/configured") == "/configured"
    with pytest.raises(InputError, match="cannot run /configured"):
        find_vllm("/configured")


@pytest.mark.parametrize(("rank", "served"), [(1, 1), (2, 8), (24, 32), (300, 320), (512, 512)])
def test_the_served_rank_is_one_that_vllm_takes(rank, served) -> None:
    assert served_rank(rank) == served


def test_a_run_asks_for_the_policy_with_an_edit_on_top() -> None:
    sections = {"finetune": {"rank": 8}, "update": {"rank": 16}}
    model = model_in_use(Config.model_validate(sections), MODEL, "bfloat16")
    options = VllmEngine(EngineSection(kind="vllm", adapter_slots=3)).options(model)
    assert (options.max_rank, options.dtype, options.adapter_slots) == (24, "bfloat16", 3)
    alone = Config.model_validate({**sections, "run": {"rounds": 0}})
    assert model_in_use(alone, MODEL, "float32").max_rank == 8


@pytest.mark.parametrize(
    ("engine", "device", "visible", "share"),
    [
        ({"kind": "transformers"}, "auto", None, 0.0),
        ({"kind": "vllm"}, "auto", None, 0.5),
        ({"kind": "vllm", "gpu_memory_utilization": 0.3}, "cuda:0", None, 0.3),
        ({"kind": "vllm"}, "cuda:1", None, 0.0),
        ({"kind": "vllm", "args": ["--tensor-parallel-size=2"]}, "cuda:1", None, 0.5),
        ({"kind": "vllm", "gpus": "GPU-5f2"}, "auto", None, 0.5),
        ({"kind": "vllm", "gpus": "1"}, "auto", None, 0.0),
        ({"kind": "vllm", "gpus": "0,1"}, "auto", None, 0.5),
        ({"kind": "vllm", "gpus": "3"}, "cuda:1", "2,3", 0.5),
        ({"kind": "vllm", "servers": ["http://localhost:1"]}, "auto", None, 0.0),
    ],
)
def test_trainers_leave_a_server_on_their_gpu_its_share(
    engine, device, visible, share, monkeypatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    config = Config.model_validate({"engine": engine, "execution": {"device": device}})
    assert server_share(config) == share


def test_the_command_and_environment_follow_the_options(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv("VLLM_CPU_KVCACHE_SPACE", raising=False)
    options = VllmOptions(MODEL, max_rank=24, adapter_slots=5, gpus="1", args=("--seed", "3"))
    chosen = server_command(replace(options, dtype="bfloat16"), VllmInstall("py", "0", True), 81)
    assert chosen[chosen.index("--dtype") + 1] == "bfloat16"
    cpu, gpu = (VllmInstall("py", "0.32.0", cpu) for cpu in (True, False))
    on_cpu = server_command(options, cpu, 81, ["q_proj", "o_proj"])
    on_gpu = server_command(options, gpu, 81)

    def value(command: list[str], name: str) -> str:
        return command[command.index(name) + 1]

    assert (value(on_cpu, "--dtype"), value(on_gpu, "--dtype")) == ("float32", "auto")
    assert (value(on_cpu, "--max-loras"), value(on_cpu, "--max-lora-rank")) == ("5", "32")
    assert value(on_cpu, "--host") == "127.0.0.1"
    targets = on_cpu.index("--lora-target-modules")
    assert on_cpu[targets + 1 : targets + 3] == ["q_proj", "o_proj"]
    assert on_cpu[-2:] == on_gpu[-2:] == ["--seed", "3"]
    assert "--max-model-len" not in on_gpu
    environment = server_environment(options, gpu, "key", tmp_path)
    assert environment["VLLM_RPC_BASE_PATH"] == str(tmp_path)
    assert environment["VLLM_API_KEY"] == "key" and environment["CUDA_VISIBLE_DEVICES"] == "1"
    assert "key" not in " ".join(on_cpu)
    assert "VLLM_CPU_KVCACHE_SPACE" not in environment
    assert "VLLM_CPU_KVCACHE_SPACE" in server_environment(options, cpu, "key", tmp_path)
    assert environment["PATH"] == os.environ["PATH"]


def test_the_causes_in_a_log_come_before_its_last_lines(tmp_path: Path) -> None:
    log = tmp_path / "log"
    shutdown = [f"shutdown {i}" for i in range(50)]
    log.write_text("\n".join(["(Core pid=1) ERROR ValueError: out of blocks", *shutdown]))
    assert log_causes(log).endswith("\nValueError: out of blocks")
    log.write_text("\n".join(shutdown))
    assert log_causes(log).endswith("shutdown 49")
    assert "cannot be read" in log_causes(tmp_path / "none")
