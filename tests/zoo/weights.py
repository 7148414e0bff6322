"""Draws weights in which every path counts, and checks that the model tells inputs apart."""

from __future__ import annotations

from typing import Any

import torch

from tests.zoo.vocabulary import FIRST, SIZE

_GAIN = 1.2
"""Above what keeps a layer's output as large as its input, so that layers outweigh embeddings."""

_EMBEDDING = 0.4
_MIN_SPREAD = 0.1
"""Standard deviation that logits must have, and distance between those of unlike inputs."""


_ANSWER = 10


class UnfitError(Exception):
    """The model computes, and yet nothing could be told from its answers."""


@torch.no_grad()
def draw_weights(model: Any, seed: int = 0) -> None:
    """Random numbers for all matrices, and for every vector that starts at zero.

    Vectors with a start of their own (norms, decays, step sizes) keep it, slightly moved: a
    norm that is all ones would hide that it is there.
    """
    generator = torch.Generator().manual_seed(seed)
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, torch.nn.Embedding)}
    seen: set[int] = set()
    for tensor in [*model.parameters(), *model.state_dict().values()]:
        if tensor.data_ptr() in seen or not tensor.is_floating_point() or not tensor.numel():
            continue
        seen.add(tensor.data_ptr())
        noise = torch.randn(tensor.shape, generator=generator)
        if id(tensor) in embeddings:
            tensor.copy_(_EMBEDDING * noise)
        elif (tensor.dim() >= 2 and min(tensor.shape[-2:]) > 1) or not tensor.any():
            fan_in = tensor[0].numel() if tensor.dim() == 2 else tensor.shape[-1]
            tensor.copy_(noise * (_GAIN / fan_in**0.5 if tensor.dim() >= 2 else 0.1))
        else:
            tensor.mul_(1 + 0.1 * noise)


@torch.no_grad()
def check_fitness(model: Any) -> None:
    """Refuses a model whose logits are flat, not finite, or the same for unlike inputs.

    Raises:
        UnfitError: says which.
    """
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(FIRST, SIZE, (2, 20), generator=generator)
    ids[1, 10:] = ids[0, 10:]  # Unlike only in what came before.
    logits = model(input_ids=ids, use_cache=False).logits.float()
    if not logits.isfinite().all():
        raise UnfitError("its logits are not finite")
    if logits.shape[:2] != ids.shape:
        raise UnfitError(f"its logits have the shape {tuple(logits.shape)}")
    if logits[..., :SIZE].std(dim=-1).min() < _MIN_SPREAD:
        raise UnfitError(f"its logits are flat: {logits.std(dim=-1).min():.2g}")
    far = (logits[0, 10] - logits[1, 10]).std()
    if far < _MIN_SPREAD / 10:
        raise UnfitError(f"its answer does not depend on earlier tokens: {far:.2g}")


@torch.no_grad()
def check_answers(model: Any) -> None:
    """Lets the model answer beyond its windows with `generate()`; any error of it goes on."""
    ids = torch.arange(FIRST, FIRST + 2 * _ANSWER)[None]
    mask = torch.ones_like(ids)
    model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=_ANSWER, do_sample=False)
