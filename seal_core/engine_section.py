"""The section of a config that says which library answers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from seal_core.section import PositiveFloat, PositiveInt, Section
from seal_core.vllm_args import check_args


class EngineSection(Section):
    """Which library answers; enters no identity.

    Greedy answers are the same with each engine up to floating-point ties. Sampled ones are
    drawn from the same distribution, but with other random numbers.

    Attributes:
        kind: `transformers` answers in processes of its own, `vllm` with a vLLM server. Training
            is the same with both.
        servers: URLs of running vLLM servers; without any, one is started.
        python: Interpreter that has vLLM. Without it: `SEAL_VLLM_PYTHON` of the environment,
            `.venv-vllm/bin/python` in the current folder, or the current interpreter.
        adapter_slots: Adapters in flight at once on each server.
        adapter_folder: Folder that the servers can read, for adapters on their way to them.
            Without it, one in memory.
        gpus: `CUDA_VISIBLE_DEVICES` of the server that is started; empty to inherit it.
        gpu_memory_utilization: Share of the GPU's memory that the server takes.
        max_model_len: Longest sequence in tokens; None for the model's own context.
        start_timeout: Seconds until the server must be healthy.
        request_timeout: Seconds for one request to a server.
        args: Further arguments of `vllm serve`; none that changes the model or its precision.
    """

    kind: Literal["transformers", "vllm"] = "transformers"
    servers: tuple[Annotated[str, Field(pattern=r"^https?://")], ...] = ()
    python: str = ""
    adapter_slots: PositiveInt = 8
    adapter_folder: str = ""
    gpus: str = ""
    gpu_memory_utilization: Annotated[float, Field(gt=0.0, le=1.0)] = 0.5
    max_model_len: PositiveInt | None = None
    start_timeout: PositiveFloat = 600.0
    request_timeout: PositiveFloat = 600.0
    args: tuple[str, ...] = ()

    @field_validator("args")
    @classmethod
    def _args_leave_the_model(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        check_args(value)
        return value

    @model_validator(mode="after")
    def _settings_fit_kind(self) -> EngineSection:
        given = {name for name in self.model_fields_set if name != "kind"}
        changed = sorted(n for n in given if getattr(self, n) != type(self).model_fields[n].default)
        if changed and self.kind != "vllm":
            raise ValueError(f"engine.{changed[0]} needs engine.kind = 'vllm'")
        own = ("python", "gpus", "gpu_memory_utilization", "max_model_len", "start_timeout", "args")
        vain = [name for name in changed if name in own]
        if self.servers and vain:
            raise ValueError(
                f"engine.{vain[0]} is for a server that is started, and engine.servers names "
                "running ones: leave one of them out"
            )
        return self
