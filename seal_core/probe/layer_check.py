"""Compares what adapters add in each layer: a batch against PEFT, one text at a time.

The logits alone cannot tell whether every kind of layer has its adapter: in half precision some
change them less than rounding does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from seal_core.generation.plain_generator import adapted
from seal_core.generation.prefill import pad_left, positions_of
from seal_core.models.loading import LoadedModel
from seal_core.models.logits import next_logits
from seal_core.models.rounding import missing_share, relative_error
from seal_core.probe.batch_check import banked
from seal_core.probe.probe_rows import Answer

_FEATURES = 64
"""Outputs of a layer that are looked at: a delta of low rank shows in any few of them."""

Deltas = dict[str, list[torch.Tensor]]
"""What adapters add for each text `[calls * tokens, features]`, by layer."""


@torch.inference_mode()
def plain_deltas(loaded: LoadedModel, modules: Sequence[str], answers: Sequence[Answer]) -> Deltas:
    """What PEFT adds, with one text after another; `base_layer` is PEFT's name of the plain one."""
    found: Deltas = {name: [] for name in modules}
    for answer in answers:
        ids = torch.tensor([answer.prompt + answer.tokens], device=loaded.device)
        with (
            adapted(loaded, answer.adapters),
            _watched(loaded.model, modules, "base_layer") as seen,
        ):
            # Of all tokens, as in the batch: the head may be a target.
            next_logits(loaded.model, ids, ids.shape[1])
        for name, calls in seen.items():
            found[name].append(torch.cat([call.reshape(-1, call.shape[-1]) for call in calls]))
    return found


@torch.inference_mode()
def batched_deltas(
    loaded: LoadedModel, modules: Sequence[str], answers: Sequence[Answer]
) -> Deltas:
    """What a bank adds, with all texts in one batch.

    Raises:
        Exception: of many kinds, from within models that cannot be run so.
    """
    with banked(loaded, answers) as (_, order):
        texts = [answers[i].prompt + answers[i].tokens for i in order]
        ids, mask = pad_left(texts, loaded)
        with _watched(loaded.model, modules, "base") as seen:
            loaded.model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions_of(mask),
                use_cache=False,
            )
    found: Deltas = {}
    for name, calls in seen.items():
        rows = [call.reshape(*ids.shape, -1) for call in calls]
        by_answer = {
            i: torch.cat([row[place, -len(text) :] for row in rows])
            for place, (i, text) in enumerate(zip(order, texts, strict=True))
        }
        found[name] = [by_answer[i] for i in range(len(answers))]
    return found


def adapter_error(found: Deltas, expected: Deltas) -> float:
    """The largest `missing_share` of a text's delta in any layer.

    For a text without an adapter, it is the size of what was added, as a share of what the layer
    adds to other texts.
    """
    worst = 0.0
    for name, texts in expected.items():
        largest = max(float(text.norm()) for text in texts)
        for own, text in zip(found[name], texts, strict=True):
            if bool(text.any()):
                worst = max(worst, missing_share(own, text))
            else:
                worst = max(worst, relative_error(own, text, largest))
    return worst


@contextmanager
def _watched(
    model: Any, modules: Sequence[str], inner: str
) -> Iterator[Mapping[str, list[torch.Tensor]]]:
    """Collects the deltas of each call; the plain layer is called `inner` in a wrapped one."""
    seen: dict[str, list[torch.Tensor]] = {name: [] for name in modules}

    def watch(name: str) -> Any:
        def hook(layer: Any, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            # A layer that no adapter of the row targets is not wrapped.
            base = getattr(layer, inner, None)
            before = output if base is None else base(args[0])
            delta = output[..., :_FEATURES].double() - before[..., :_FEATURES].double()
            seen[name].append(delta.cpu())

        return model.get_submodule(name).register_forward_hook(hook)

    hooks = [watch(name) for name in modules]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
