"""What a model's files tell of it before a library reads them, which takes seconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from seal_core.models.files.model_files import weight_names
from seal_core.models.model_shapes import read_shapes

_CONTEXTS = (
    "max_position_embeddings",
    "original_max_position_embeddings",
    "n_positions",
    "n_ctx",
    "max_seq_len",
    "seq_length",
    "max_target_positions",
)


def told_context(model_path: str) -> int | None:
    """The least length that the config of a model tells; None if it tells none."""
    config = _json(Path(model_path) / "config.json")
    places = [config, *(value for value in config.values() if isinstance(value, dict))]
    told = [place.get(name) for place in places for name in _CONTEXTS]
    return min((n for n in told if isinstance(n, int) and n > 0), default=None)


def told_layers(model_path: str) -> set[str]:
    """Names of what has weights, as the files name them, which libraries may do otherwise."""
    return set(told_shapes(model_path))


def told_shapes(model_path: str) -> dict[str, tuple[int, ...]]:
    """Shapes of what has weights, by these names; nothing if a file cannot be read."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name in weight_names(Path(model_path)):
        try:
            found = read_shapes(Path(model_path) / name)
        except (OSError, SafetensorError):
            return {}  # Whoever loads them says what is wrong with them.
        shapes.update({key.removesuffix(".weight"): shape for key, shape in found.items()})
    return shapes


def has_chat_template(model_path: str) -> bool:
    """Whether a tokenizer comes with a chat template."""
    folder = Path(model_path)
    files = ("chat_template.jinja", "chat_template.json")
    told = _json(folder / "tokenizer_config.json").get("chat_template")
    return bool(told) or any((folder / name).is_file() for name in files)


def _json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}  # As above.
    return found if isinstance(found, dict) else {}
