"""Knows how long a row may be for a model to be right, whatever stands beside it."""

from __future__ import annotations

from typing import Any

_RIGHT_BELOW = {
    # Scales queries by their place in the batch, padding included, from this place on.
    "llama4_text": "floor_scale",
    # The library's cache gives longer texts other logits than one pass over them.
    "doge": "keep_window_size",
    "moshi": "sliding_window",
}
"""By type, the name of a length that no row may reach; the probe's are too short to find it."""

_LENGTHS = (
    "original_max_position_embeddings",
    "max_position_embeddings",
    "max_seq_len",  # MPT
    "max_target_positions",  # Whisper
)


def longest_row(config: Any) -> int | None:
    """The longest sequence whose answers do not depend on the rows beside it.

    Rotations of the kinds `longrope` (Phi-3) and `dynamic` change for a whole batch as soon as
    one row is longer than the model was first trained for, and the cache is worthless then.
    """
    rope = getattr(config, "rope_parameters", None) or {}
    ropes = [rope, *(own for own in rope.values() if isinstance(own, dict))]
    limits = [
        own.get("original_max_position_embeddings")
        for own in ropes
        if own.get("rope_type") in ("longrope", "dynamic")
    ]
    if config.model_type in _RIGHT_BELOW:
        limits.append(getattr(config, _RIGHT_BELOW[config.model_type]) - 1)
    limits.extend(getattr(config, name, None) for name in _LENGTHS)
    return min((limit for limit in limits if limit), default=None)
