"""Finds linear layers that LoRA cannot reach, though they look like any other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from weakref import WeakKeyDictionary

import peft
import torch
from peft.tuners.tuners_utils import _check_lora_target_modules_mamba
from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers

_TOKENS = 32
"""Enough that each expert of a router gets some."""

_uncalled: WeakKeyDictionary[Any, frozenset[str]] = WeakKeyDictionary()


def barred_layers(model: Any, names: Iterable[str]) -> dict[str, str]:
    """Why an adapter on a layer would do nothing, or something else, by the layer's name."""
    names = list(names)
    barred = {}
    uncalled = _uncalled_layers(model, names)
    for name in names:
        if name in uncalled:
            barred[name] = "the model uses its weights without calling the layer, or not at all"
        elif reason := _peft_refuses(model, name):
            barred[name] = reason
    return barred


def other_towers(model: Any, names: Iterable[str]) -> frozenset[str]:
    """Layers beside the text's decoder that a text never reaches, such as those for images.

    PEFT would put adapters on them too, which never do anything.
    """
    inside = {*model.get_decoder().modules(), model.get_output_embeddings()}
    uncalled = _uncalled_layers(model, list(names))
    return frozenset(name for name in uncalled if model.get_submodule(name) not in inside)


def _peft_refuses(model: Any, name: str) -> str | None:
    config = peft.LoraConfig(target_modules=[name])
    try:
        _check_lora_target_modules_mamba(config, model, name.rpartition(".")[2])
        convert_peft_config_for_transformers(config, model, None)
    except ValueError:
        return "PEFT refuses it for this kind of model"
    if name not in (config.target_modules or ()):
        return "PEFT takes its name for that of the fused experts"
    return None


@torch.inference_mode()
def _uncalled_layers(model: Any, names: list[str]) -> frozenset[str]:
    """Layers that a pass over some tokens does not call; empty if the model cannot be run."""
    if model not in _uncalled:
        called: set[str] = set()
        hooks = [
            model.get_submodule(name).register_forward_hook(lambda *_, name=name: called.add(name))
            for name in names
        ]
        n_tokens = model.get_input_embeddings().weight.shape[0]
        ids = torch.arange(_TOKENS, device=model.device)[None] * 7 % n_tokens
        try:
            model(input_ids=ids, use_cache=False)
        except (TypeError, ValueError, RuntimeError, AttributeError, IndexError, KeyError):
            called.update(names)  # The probe tells what is wrong with such a model.
        finally:
            for hook in hooks:
                hook.remove()
        _uncalled[model] = frozenset(names) - called
    return _uncalled[model]
