"""Says which engine to open and how; light enough for a parent process to import."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from seal_core.engines import PLAIN_CHAT, ChatSettings
from seal_core.models.files.model_digest import ModelFiles


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """An engine of one process. All but the model is execution: it never changes results
    beyond floating-point ties, and never enters a stage's identity.

    Attributes:
        model_path: Folder of the base model.
        device: `auto` (a GPU if there is one), `cpu`, `cuda`, `cuda:1`.
        dtype: `auto`, `float32`, `bfloat16`, `float16`, `float64`.
        threads: CPU threads of the process.
        max_batch_tokens: Rows times padded length of one batch of answers; bounds memory.
        targets: What adapters are trained on; the model is tried with these.
        fill_rows: Whether training rows are filled up with padding; the model is tried so.
        files: The model's files, which may not change; None to try it without remembering it.
        verdicts: Folder that remembers verdicts on models.
        verdict_record: File that says which verdict the run had.
        chat: What the model's chat template is told; like the model, it bears identity.
        chats: Whether there are conversations; engines of others are tried with these too.
        memory_bytes: For adapters in training and their activations, besides the model; None
            for most of a GPU, or a share of the machine's memory on a CPU.
        trainer: `[trainer]` of the config, as plain JSON.
        server_share: Of the GPU's memory, which the engine that answers takes on the same GPU.
        sharers: Engine processes on the same GPU.
    """

    model_path: str
    device: str = "auto"
    dtype: str = "auto"
    threads: int = 1
    max_batch_tokens: int = 32768
    trainer: dict[str, Any] = field(default_factory=lambda: {"kind": "batched"})
    memory_bytes: int | None = None
    server_share: float = 0.0
    sharers: int = 1
    targets: tuple[str, ...] = ("all-linear",)
    fill_rows: bool = False
    files: ModelFiles | None = None
    verdicts: str = ""
    verdict_record: str = ""
    chat: ChatSettings = PLAIN_CHAT
    chats: bool = False
