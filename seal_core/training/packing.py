"""Packs the rows of a batch into one stream, so that no layer but attention ever sees padding.

A model's linear layers, norms and activations treat every token alone: they run over one
stream of tokens. Attention needs to know where a row begins; there, rows of similar length
are gathered into small padded groups and scattered back.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from seal_core.models.loading import LoadedModel
from seal_core.models.rounding import TOLERANCE, logits_error
from seal_core.training.slots.transfer import sent

_NAME = "seal_packed"
_SIMILAR = 0.6
"""Rows of one group are at least this share of its longest row: at most 2.8 times the scores."""

_PADDED = 6.0
"""Most tokens of a single group, padding included, per token of its own. On a GPU attention over
padding costs less than the calls of another group, as long as there is not much more of it."""

_CHECK_LENGTHS = (3, 11, 7)
_LONGEST_CHECK = 8192


@dataclass(frozen=True, slots=True)
class Packing:
    """Where the rows of a batch stand in one stream of tokens, and in groups of similar length.

    Attributes:
        positions: Position of each token in its own row `[1, tokens]`.
        groups: Rows and tokens of each padded group.
        gather: Place in the stream of each place in the groups, one group after the other; padding
            repeats a row's end.
        scatter: Place in the groups of each token of the stream.
    """

    positions: torch.Tensor
    groups: tuple[tuple[int, int], ...]
    gather: torch.Tensor
    scatter: torch.Tensor

    @classmethod
    def build(
        cls, lengths: Sequence[int], device: torch.device, few_calls: bool = False
    ) -> Packing:
        """Plans the layout of rows of these lengths.

        Args:
            few_calls: Rather pad more than make more groups, as a GPU wants it.
        """
        counts = torch.tensor(lengths)
        starts = counts.cumsum(0) - counts
        n_tokens = int(counts.sum())
        scatter = torch.empty(n_tokens, dtype=torch.long)
        groups, gathers, offset = [], [], 0
        for rows in _groups(lengths, few_calls):
            own, first = counts[rows, None], starts[rows, None]
            place = torch.arange(lengths[rows[0]])[None]
            inside = place < own
            # Filled up with a token of its own: 0 times another row's NaN would be NaN.
            gathers.append((first + torch.minimum(place, own - 1)).flatten())
            taken = inside.flatten().nonzero()[:, 0]
            scatter[gathers[-1][taken]] = offset + taken
            groups.append((len(rows), place.shape[1]))
            offset += inside.numel()
        positions = torch.arange(n_tokens) - starts.repeat_interleave(counts)
        gather = gathers[0] if len(gathers) == 1 else torch.cat(gathers)
        return cls(
            sent(positions[None], device),
            tuple(groups),
            sent(gather, device),
            sent(scatter, device),
        )


def _mask(longest: int, window: int | None, device: torch.device) -> torch.Tensor | None:
    """True where a query may look `[1, 1, tokens, tokens]`; None if causality says it.

    Args:
        window: Tokens that a query of the layer sees at most; None for all before it.
    """
    if window is None or longest <= window:
        return None
    place = torch.arange(longest, device=device)
    behind = place[:, None] - place[None, :]
    return ((behind >= 0) & (behind < window))[None, None]


class _Gather(torch.autograd.Function):
    """Tokens of `[1, tokens, …]` by index; the way back is an index too, which beats adding."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, there: torch.Tensor, back: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(back)
        return x.index_select(1, there)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        (back,) = ctx.saved_tensors
        return gradients[0].index_select(1, back), None, None


def _attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    packing: Packing,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each row; all three are `[1, heads, tokens, size]`."""
    streams = [
        _Gather.apply(x.transpose(1, 2), packing.gather, packing.scatter)
        for x in (query, key, value)
    ]
    outputs, start = [], 0
    for shape in packing.groups:
        end = start + shape[0] * shape[1]
        parts = streams if len(packing.groups) == 1 else [x[:, start:end] for x in streams]
        q, k, v = (x.view(*shape, *x.shape[2:]).transpose(1, 2) for x in parts)
        mask = _mask(shape[1], sliding_window, q.device)
        output, _weights = sdpa_attention_forward(module, q, k, v, mask, scaling=scaling)
        outputs.append(output.reshape(1, -1, *output.shape[2:]))
        start = end
    padded = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)
    return _Scatter.apply(padded, packing.scatter), None


class _Scatter(torch.autograd.Function):
    """Takes the real tokens out of padded groups; padding gets a zero gradient."""

    @staticmethod
    def forward(ctx: Any, padded: torch.Tensor, scatter: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(scatter)
        ctx.n_places = padded.shape[1]
        return padded.index_select(1, scatter)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        (scatter,) = ctx.saved_tensors
        gradient = gradients[0]
        padded = gradient.new_zeros(1, ctx.n_places, *gradient.shape[2:])
        return padded.index_copy_(1, scatter, gradient), None


AttentionInterface.register(_NAME, _attention)


@contextlib.contextmanager
def packed(model: Any) -> Iterator[None]:
    """Inside, the model takes one stream of tokens, with `packing=` and `position_ids=`."""
    config = model.config.get_text_config()
    before = config._attn_implementation
    config._attn_implementation = _NAME
    try:
        yield
    finally:
        config._attn_implementation = before


@torch.inference_mode()
def can_pack(loaded: LoadedModel) -> bool:
    """Whether the model gives each row of a stream the logits that it has alone.

    Tried on a few rows, one of them longer than the layers' window, since a model may use
    another attention than the library's common one, or mix tokens in other layers too.
    """
    model, device = loaded.model, loaded.device
    n_tokens = model.get_input_embeddings().weight.shape[0]
    lengths = _check_lengths(loaded)
    if lengths is None:
        return False
    rows = [
        [(7 * i + 13 * place + 1) % n_tokens for i in range(length)]
        for place, length in enumerate(lengths)
    ]
    alone = [model(torch.tensor([row], device=device), use_cache=False).logits[0] for row in rows]
    stream = torch.tensor([[token for row in rows for token in row]], device=device)
    packing = Packing.build(lengths, device)
    try:
        with packed(model):
            together = model(
                stream, position_ids=packing.positions, use_cache=False, packing=packing
            ).logits[0]
    except (TypeError, ValueError, RuntimeError, KeyError):
        return False
    return logits_error(together, torch.cat(alone)) <= TOLERANCE[model.dtype]


def _check_lengths(loaded: LoadedModel) -> tuple[int, ...] | None:
    """Rows to try; None for a window that is too long to be tried."""
    config = loaded.model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or [])
    if kinds - {"full_attention", "sliding_attention"}:
        return None
    window = getattr(config, "sliding_window", None)
    limit = loaded.context or _LONGEST_CHECK
    if limit < max(_CHECK_LENGTHS):
        return None
    if window is None or window >= limit:
        return _CHECK_LENGTHS  # No row can be longer than the window.
    return (*_CHECK_LENGTHS, window + 3) if window < _LONGEST_CHECK else None


def _groups(lengths: Sequence[int], few_calls: bool) -> list[list[int]]:
    """Rows by falling length, cut where they become too short for the group's longest."""
    order = sorted(range(len(lengths)), key=lambda row: (-lengths[row], row))
    if few_calls and len(lengths) * lengths[order[0]] <= _PADDED * sum(lengths):
        return [order]
    groups: list[list[int]] = []
    for row in order:
        if groups and lengths[row] >= _SIMILAR * lengths[groups[-1][0]]:
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups
