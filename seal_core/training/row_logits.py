"""Runs a batch of training rows through the model; returns the logits that predict a target.

Two layouts, in both of which an adapter's tokens are neighbours: *packed*, one stream without
padding, for models whose attention can be told where rows begin, and *padded*, rows filled up on
the right to the longest, where no causal model's real tokens look, for all others. Rows that
carry padding of their own are padded too: it may count in a model's positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from seal_core.models.loading import LoadedModel
from seal_core.models.text.tokens import EncodedRow
from seal_core.training.packing import Packing
from seal_core.training.slots.transfer import sent


def tick_tokens(rows: Sequence[Sequence[EncodedRow]], pack: bool) -> tuple[int, ...]:
    """Tokens that each adapter's rows take in one batch, padding included."""
    if pack:
        return tuple(sum(len(row.ids) for row in own) for own in rows)
    longest = max(len(row.ids) for own in rows for row in own)
    return tuple(longest * len(own) for own in rows)


def packed_logits(
    loaded: LoadedModel, rows: Sequence[EncodedRow], few_calls: bool = False
) -> torch.Tensor:
    """`[targets, vocabulary]`, row after row; inside `packing.packed`.

    Args:
        few_calls: See `Packing.build`.
    """
    device = loaded.device
    packing = Packing.build([len(row.ids) for row in rows], device, few_calls)
    predicting, start = [], 0
    for row in rows:
        predicting.extend(range(start + row.n_context - 1, start + len(row.ids) - 1))
        start += len(row.ids)
    return loaded.model(
        input_ids=sent(torch.tensor([[token for row in rows for token in row.ids]]), device),
        position_ids=packing.positions,
        use_cache=False,
        logits_to_keep=sent(torch.tensor(predicting), device),
        packing=packing,
    ).logits[0]


def padded_logits(loaded: LoadedModel, rows: Sequence[EncodedRow]) -> torch.Tensor:
    """The same from rows that are padded to the longest.

    The head sees every token, as any other layer that may be a target.
    """
    device = loaded.device
    longest = max(len(row.ids) for row in rows)
    ids = [[*row.ids, *[loaded.pad_id] * (longest - len(row.ids))] for row in rows]
    options: dict[str, Any] = {"use_cache": False}
    if any(row.n_pads for row in rows):
        seen = [len(row.ids) - row.n_pads for row in rows]
        mask = [[1] * own + [0] * (longest - own) for own in seen]
        options["attention_mask"] = sent(torch.tensor(mask), device)
    logits = loaded.model(input_ids=sent(torch.tensor(ids), device), **options).logits
    return torch.cat(
        [logits[i, row.n_context - 1 : len(row.ids) - 1] for i, row in enumerate(rows)]
    )
