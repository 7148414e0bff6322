"""A vLLM engine on a scripted server."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from seal_core.generation.vllm import client as vllm_client
from seal_core.generation.vllm.generator import VllmGenerator
from seal_core.generation.vllm.options import VllmOptions
from tests import scripted_vllm
from tests.waiting import HUNG

ROOT = Path(__file__).parents[4]
ADAPTERS = "round=3 [a]* 'é' %20#?"
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

    def start(timeout: float | None = HUNG, **options: Any) -> VllmGenerator:
        values = {
            "python": sys.executable,
            "adapter_folder": str(tmp_path / ADAPTERS),
            "max_rank": 16,
            "start_timeout": HUNG,
            "request_timeout": HUNG,
            **options,
        }
        generator = VllmGenerator(VllmOptions(model_path, **values), tmp_path / "log", timeout)
        opened.append(generator)
        return generator

    yield start
    for generator in opened:
        generator.close()
    assert list((tmp_path / ADAPTERS).iterdir()) == []


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
