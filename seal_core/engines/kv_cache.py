"""A key-value cache that is written in place, for decoding many rows at once.

The library's dynamic cache copies everything it holds for every new token; on a small model
that copy costs more than the model. Here room is allocated ahead and grows by halves.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

_ROOM = 64
"""Tokens of room behind the prompt; most answers are shorter."""


class RoomyLayer(DynamicLayer):
    """One layer's keys and values `[rows, heads, tokens, head size]`, views of larger buffers."""

    def __init__(self) -> None:
        super().__init__()
        self._length = 0

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Appends the new tokens and returns everything held."""
        start, end = self._length, self._length + key_states.shape[2]
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._key_buffer = _allocate(key_states, end + _ROOM)
            self._value_buffer = _allocate(value_states, end + _ROOM)
        elif end > self._key_buffer.shape[2]:
            self._key_buffer = _grown(self._key_buffer, start, end)
            self._value_buffer = _grown(self._value_buffer, start, end)
        self._key_buffer[:, :, start:end] = key_states
        self._value_buffer[:, :, start:end] = value_states
        self._length = end
        self.keys, self.values = self._key_buffer[:, :, :end], self._value_buffer[:, :, :end]
        return self.keys, self.values

    def get_seq_length(self) -> int:
        """Tokens held per row, padding included."""
        return self._length

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Drops all rows but these."""
        self._key_buffer = self._key_buffer[indices]
        self._value_buffer = self._value_buffer[indices]


def new_cache(model: Any) -> Cache:
    """A cache for one batch; the library's own for models with other than full attention."""
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if kinds == {"full_attention"} and getattr(config, "sliding_window", None) is None:
        return Cache(layers=[RoomyLayer() for _ in range(config.num_hidden_layers)])
    return DynamicCache(config=config)


def _allocate(states: torch.Tensor, room: int) -> torch.Tensor:
    rows, heads, _, size = states.shape
    return states.new_empty(rows, heads, room, size)


def _grown(buffer: torch.Tensor, used: int, needed: int) -> torch.Tensor:
    larger = _allocate(buffer, max(needed, buffer.shape[2] * 3 // 2))
    larger[:, :, :used] = buffer[:, :, :used]
    return larger
