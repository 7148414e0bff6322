"""A vLLM server never outlives the process that started it, however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from seal_core.engines import GenerateRequest
from tests.waiting import eventually

ROOT = Path(__file__).parents[4]

CHILD = """
import sys
from pathlib import Path
from seal_core.engines import GenerateRequest
from seal_core.generation.vllm.generator import VllmGenerator
from seal_core.generation.vllm.options import VllmOptions
folder = Path(sys.argv[2])
options = VllmOptions(sys.argv[1], python=sys.executable, adapter_folder=str(folder / "adapters"))
generator = VllmGenerator(options, folder / "log")
generator.generate([GenerateRequest("a", "x")])
print(generator._server._guard.pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("guard_too", [False, True])
def test_the_server_ends_with_a_killed_parent(script, model_path, tmp_path, guard_too) -> None:
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
        if guard_too:
            os.kill(group, signal.SIGKILL)
        child.kill()
    # Nobody is left to remove the folder if the guard is gone too.
    folder = tmp_path / ("none" if guard_too else "adapters")
    assert eventually(lambda: not group_members(group) and not list(folder.glob("*")))


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
