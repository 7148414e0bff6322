"""Say where the packaged default model lies; the rest of the package builds and tests it."""

from __future__ import annotations

from pathlib import Path

__all__ = ["weights_path"]


def weights_path() -> Path:
    """Folder of the packaged model: safetensors, config and tokenizer, as transformers loads it."""
    return Path(__file__).resolve().parent / "weights"
