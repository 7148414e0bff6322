"""Packs independent items into batches that fit a token and a byte budget."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Item:
    """What a batch has to know about one request.

    Attributes:
        index: The request's place in the call.
        prefill: Tokens that are run at once.
        growth: Tokens that are added later, one by one.
        group: The stack of adapters; requests of one group like to share a batch.
        n_bytes: Memory that the request's adapters take in a batch.
    """

    index: int
    prefill: int
    growth: int
    group: Hashable
    n_bytes: int


def pack(items: Sequence[Item], max_tokens: int, max_bytes: int) -> list[list[Item]]:
    """Batches of similar length whose padded size keeps within the budgets.

    Adapters are kept together within a length class (a factor of sqrt 2), so that each is
    loaded about once, while padding stays below 42% at worst. An item larger than a budget
    gets a batch of its own. The longest come first: memory runs out at the start or never.
    """
    order = sorted(
        items,
        key=lambda item: (-_length_class(item.prefill), str(item.group), -item.prefill),
    )
    batches: list[list[Item]] = []
    current: list[Item] = []
    prefill = growth = n_bytes = 0
    for item in order:
        widest, longest = max(prefill, item.prefill), max(growth, item.growth)
        tokens = (widest + longest) * (len(current) + 1)
        if current and (tokens > max_tokens or n_bytes + item.n_bytes > max_bytes):
            batches.append(current)
            current, n_bytes = [], 0
            widest, longest = item.prefill, item.growth
        current.append(item)
        prefill, growth, n_bytes = widest, longest, n_bytes + item.n_bytes
    if current:
        batches.append(current)
    return batches


def _length_class(length: int) -> int:
    return math.ceil(2 * math.log2(max(length, 1)))
