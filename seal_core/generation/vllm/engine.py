"""The engine kind `vllm`: opens servers, or uses those that run, as `[engine]` says."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from seal_core.engine_section import EngineSection
from seal_core.engines import ModelInUse
from seal_core.generation.vllm.checks import check_vllm
from seal_core.generation.vllm.options import VllmOptions
from seal_core.gpus import visible_gpu


class VllmEngine:
    """See `engines.Engine`."""

    def __init__(self, section: EngineSection) -> None:
        self._section = section

    def check(self, model: ModelInUse) -> str:
        """Its version; several, if running servers differ.

        Raises:
            InputError: vLLM is not installed, or a server will not do; with the fix.
        """
        return check_vllm(self.options(model))

    def memory_share(self, trainers: str | None) -> float:
        """That of a server of our own on the trainers' GPU; 0 for running ones."""
        section = self._section
        if section.servers:
            return 0.0
        # A server that inherits its cards takes the first, unless it is told to use several.
        served = (section.gpus or visible_gpu("cuda") or "").split(",")
        several = not section.gpus and any("parallel" in argument for argument in section.args)
        are_numbers = all(card.isdecimal() for card in (trainers or "", *served))
        apart = are_numbers and not several and trainers not in served
        return 0.0 if apart else section.gpu_memory_utilization

    def open(self, model: ModelInUse, log_dir: Path, timeout: float) -> Any:
        """A `VllmGenerator`."""
        # It imports torch for the tokenizer and the adapters, which only these runs need here.
        module = importlib.import_module("seal_core.generation.vllm.generator")
        return module.VllmGenerator(self.options(model), log_dir, timeout)

    def options(self, model: ModelInUse) -> VllmOptions:
        """What its servers are started with, or must have been."""
        section = self._section
        return VllmOptions(
            model_path=model.path,
            model_name=model.name,
            dtype=model.dtype,
            max_rank=model.max_rank,
            chat=model.chat,
            **section.model_dump(exclude={"kind"}),
        )
