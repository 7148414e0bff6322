"""An engine: plain transformers and PEFT in the process of the run, one request at a time."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from pathlib import Path

from seal_core.engines import Generator, ModelInUse
from seal_core.section import Section


class Library:
    """Implements `seal_core.engines.Engine`."""

    class Options(Section):
        """The settings of `[engine]` with this kind."""

        device: str = "cpu"

    def __init__(self, options: Options) -> None:
        self._options = options

    def check(self, model: ModelInUse) -> str:
        return version("transformers")

    def memory_share(self, trainers: str | None) -> float:
        return 0.0

    def open(self, model: ModelInUse, log_dir: Path, timeout: float) -> Generator:
        # They import torch, which `check` can do without.
        load = import_module("seal_core.models.loading").load_model
        import_module("transformers").utils.logging.disable_progress_bar()
        loaded = load(model.path, self._options.device, model.dtype, model.chat)
        return import_module("seal_core.generation.plain_generator").PlainGenerator(loaded)
