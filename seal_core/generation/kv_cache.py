"""A key-value cache that is written in place, for decoding many rows at once.

The library's dynamic cache copies everything it holds for every new token; on a small model
that copy costs more than the model. Here room is allocated ahead and grows by halves.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

_ROOM = 64
"""Tokens of room behind the prompt; most answers are shorter."""


class RoomyLayer(DynamicLayer):
    """One layer's keys and values `[rows, heads, tokens, head size]`, views of larger buffers.

    Args:
        room: Tokens of room behind the prompt.
    """

    def __init__(self, room: int = _ROOM) -> None:
        super().__init__()
        self._length = 0
        self._room = room

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Appends the new tokens and returns everything held."""
        start, end = self._length, self._length + key_states.shape[2]
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._key_buffer = _allocate(key_states, end + self._room)
            self._value_buffer = _allocate(value_states, end + self._room)
        elif end > self._key_buffer.shape[2]:
            self._key_buffer = _grown(self._key_buffer, start, end)
            self._value_buffer = _grown(self._value_buffer, start, end)
        self._key_buffer[:, :, start:end] = key_states
        self._value_buffer[:, :, start:end] = value_states
        return self._hold(end)

    def get_seq_length(self) -> int:
        """Tokens held per row, padding included."""
        return self._length

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Drops all rows but these."""
        self._key_buffer = self._key_buffer[indices]
        self._value_buffer = self._value_buffer[indices]

    def drop_first(self, n: int) -> None:
        """Drops the first tokens of all rows."""
        self._key_buffer, self._value_buffer = (
            self._key_buffer[:, :, n:],
            self._value_buffer[:, :, n:],
        )
        self._hold(self._length - n)

    def reserve(self, keys: torch.Tensor, values: torch.Tensor, rows: int, length: int) -> None:
        """Becomes a layer of empty rows of that length, each to be filled by `place`.

        Args:
            keys: Any, with the heads, head size, dtype and device to expect.
            values: The same; latent attention gives them other heads and another size.
        """
        self.lazy_initialization(keys, values)
        self._key_buffer, self._value_buffer = (
            # What is masked is multiplied by zero, which does not make it zero if it is NaN.
            like.new_zeros(rows, like.shape[1], length + self._room, like.shape[3])
            for like in (keys, values)
        )
        self._hold(length)

    def place(self, rows: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Writes prompts into some rows, at the end of what is held."""
        start, end = self._length - keys.shape[2], self._length
        self._key_buffer[rows, :, start:end] = keys
        self._value_buffer[rows, :, start:end] = values

    def _hold(self, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        self._length = length
        self.keys = self._key_buffer[:, :, :length]
        self.values = self._value_buffer[:, :, :length]
        return self.keys, self.values


def new_cache(model: Any, room: int = _ROOM) -> Cache:
    """A cache for one batch; the library's own for models with other than full attention."""
    if has_full_attention(model):
        # One layer for each that turns up: a decoder of a pair may have another number of them
        # than its config tells first.
        layer: Any = functools.partial(RoomyLayer, room)
        return Cache(layer_class_to_replicate=layer)
    return DynamicCache(config=model.config.get_text_config())


def has_full_attention(model: Any) -> bool:
    """Whether every layer attends to all earlier tokens."""
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    return kinds == {"full_attention"} and getattr(config, "sliding_window", None) is None


def can_drop_rows(cache: Any) -> bool:
    """Whether finished rows can leave the cache; recurrent states of the library cannot."""
    return all(hasattr(layer, "batch_select_indices") for layer in cache.layers)


def drop_first(cache: Any, n: int) -> None:
    """Drops the first tokens of all rows, padding; the cache is one for full attention."""
    for layer in cache.layers:
        layer.drop_first(n)


def joined(parts: Sequence[tuple[torch.Tensor, Any]], rows: int, length: int) -> Cache:
    """One cache of `rows` prompts that end together, from caches of some rows each.

    Args:
        parts: Row numbers and the cache of these rows; emptied one layer after the other.
        length: Tokens of the longest prompt.
    """
    layers = []
    for i in range(len(parts[0][1].layers)):
        layer, first = RoomyLayer(), parts[0][1].layers[i]
        layer.reserve(first.keys, first.values, rows, length)
        for numbers, part in parts:
            layer.place(numbers, part.layers[i].keys, part.layers[i].values)
            part.layers[i] = None
        layers.append(layer)
    return Cache(layers=layers)


def _allocate(states: torch.Tensor, room: int) -> torch.Tensor:
    rows, heads, _, size = states.shape
    return states.new_empty(rows, heads, room, size)


def _grown(buffer: torch.Tensor, used: int, needed: int) -> torch.Tensor:
    larger = _allocate(buffer, max(needed, buffer.shape[2] * 3 // 2))
    larger[:, :, :used] = buffer[:, :, :used]
    return larger
