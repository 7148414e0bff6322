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
        n_bytes: Memory that the stack takes in a batch, once for all requests of the group.
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
    groups: set[Hashable] = set()
    prefill = growth = n_bytes = 0
    for item in order:
        widest, longest = max(prefill, item.prefill), max(growth, item.growth)
        tokens = (widest + longest) * (len(current) + 1)
        added = 0 if item.group in groups else item.n_bytes
        if current and (tokens > max_tokens or n_bytes + added > max_bytes):
            batches.append(current)
            current, groups, n_bytes, added = [], set(), 0, item.n_bytes
            widest, longest = item.prefill, item.growth
        current.append(item)
        groups.add(item.group)
        prefill, growth, n_bytes = widest, longest, n_bytes + added
    if current:
        batches.append(current)
    return batches


def _length_class(length: int) -> int:
    return math.ceil(2 * math.log2(max(length, 1)))


def split_by_length(lengths: Sequence[int], call_tokens: int) -> list[list[int]]:
    """Splits rows into calls of similar length at the least cost in tokens, padding included.

    Args:
        call_tokens: What one more call costs.
    """
    rows: dict[int, list[int]] = {}
    for row, length in enumerate(lengths):
        rows.setdefault(length, []).append(row)
    # best[i] is the least cost of the i shortest kinds, whose last call begins at kind cut[i].
    kinds = sorted(rows)
    best, cut = [0], [0]
    for stop in range(1, len(kinds) + 1):
        n, choices = 0, []
        for start in range(stop - 1, -1, -1):
            n += len(rows[kinds[start]])
            choices.append((best[start] + n * kinds[stop - 1] + call_tokens, start))
        cost, start = min(choices)
        best.append(cost)
        cut.append(start)
    calls = []
    stop = len(kinds)
    while stop:
        start = cut[stop]
        calls.append(sorted(row for kind in kinds[start:stop] for row in rows[kind]))
        stop = start
    return calls
