"""The tiny config of any type: few layers, at least one of every kind that the type has."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Mapping
from typing import Any

import transformers
from transformers import CONFIG_MAPPING, PreTrainedConfig
from transformers.configuration_utils import ALLOWED_ATTN_LAYER_TYPES
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from tests.zoo.shrink import Shrinker

_LAYERS = re.compile(
    r"^(num_|n_|decoder_|encoder_|num_decoder_|num_encoder_)?(hidden_)?(layers?|blocks|layers_per_stack)$|^depth$|hidden_layers$"
)
_BASE = {field.name for field in dataclasses.fields(PreTrainedConfig)} - {
    "pad_token_id",
    "eos_token_id",
    "bos_token_id",
}


def model_class(model_type: str) -> Any:
    """The class that the library's causal mapping names for a type."""
    name = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[model_type]
    return getattr(transformers, name if isinstance(name, str) else name[0])


def config_class(model_type: str) -> Any:
    """The config of the model's own class: for some types a part of the type's config."""
    own = model_class(model_type).config_class
    return own or CONFIG_MAPPING[model_type]


@dataclasses.dataclass(frozen=True, slots=True)
class Recipe:
    """How much of what is interesting a config gets; a type may not allow all of it.

    Attributes:
        kv_heads: Heads of keys and values, of four.
        all_kinds: Layers of every kind that the model's source names, even if its default
            config has fewer.
        per_layer: Give lists of one entry per layer; otherwise the config makes its own.
    """

    kv_heads: int = 2
    all_kinds: bool = True
    per_layer: bool = True


RECIPES = (
    Recipe(),
    Recipe(kv_heads=4),
    Recipe(all_kinds=False),
    Recipe(kv_heads=4, all_kinds=False),
    Recipe(kv_heads=4, all_kinds=False, per_layer=False),
)
"""From the most telling to the plainest; the first that works is taken."""


def tiny_config(kind: Any, recipe: Recipe, overrides: Mapping[str, Any]) -> Any:
    """A config of the class `kind`, shrunk field by field from its defaults."""
    default = kind()
    shrinker = Shrinker(recipe.kv_heads)
    fields = {f.name: f for f in dataclasses.fields(kind) if f.name not in _BASE}
    parts = {n: getattr(default, n, None) for n in kind.sub_configs or {}}
    values: dict[str, Any] = {}
    for name, field in fields.items():
        value = getattr(default, name, None)
        if isinstance(parts.get(name), PreTrainedConfig):
            values[name] = tiny_config(type(parts[name]), recipe, {})
        elif field.default is not None or name.endswith("_token_id"):
            values[name] = shrinker.value(name, value)
    picks = _picked_layers(default, fields, recipe)
    for name in fields:
        if _LAYERS.search(name) and name in values:
            values[name] = len(picks)
    values.update(_per_layer(default, fields, picks, shrinker, recipe))
    values.update(overrides)
    return kind(**{n: v for n, v in values.items() if v is not None})


def _layer_count(default: Any) -> int:
    count = getattr(default, "num_hidden_layers", None)
    return count if isinstance(count, int) else 0


def _lists(default: Any, fields: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Lists with one entry per layer."""
    count = _layer_count(default)
    found = {name: getattr(default, name, None) for name in fields}
    return {n: list(v) for n, v in found.items() if isinstance(v, list | tuple) and len(v) == count}


def _picked_layers(default: Any, fields: Mapping[str, Any], recipe: Recipe) -> list[int]:
    """Indices into the default's layers: the first of each kind, at least two.

    Layers that share keys and values take them from earlier ones of their kind, so then every
    kind is there twice.
    """
    columns = [v for v in _lists(default, fields).values() if _is_names(v)]
    count = max(1, _layer_count(default))
    rows = list(zip(*columns, strict=True)) or [()] * count
    first = sorted({row: i for i, row in reversed(list(enumerate(rows)))}.values())
    picks = first if len(first) > 1 else [*first, *first]
    return picks * 2 if getattr(default, "num_kv_shared_layers", 0) else picks


def _is_names(values: list[Any]) -> bool:
    return all(isinstance(value, str) for value in values)


def _per_layer(
    default: Any,
    fields: Mapping[str, Any],
    picks: list[int],
    shrinker: Shrinker,
    recipe: Recipe,
) -> dict[str, Any]:
    """The lists with one entry per layer, cut to the picked layers."""
    if not recipe.per_layer:
        return {}
    lists = {
        name: [shrinker.value(name, values[i]) for i in picks]
        for name, values in _lists(default, fields).items()
    }
    if recipe.all_kinds and "layer_types" in fields and lists.get("layer_types"):
        lists["layer_types"] = _with_all_kinds(type(default), lists["layer_types"])
    return lists


def _with_all_kinds(kind: Any, layer_types: list[str]) -> list[str]:
    """The list with kinds that the source names put in place of repeated ones."""
    folder = inspect.getsourcefile(kind) or ""
    text = ""
    for path in (folder, folder.replace("configuration_", "modeling_")):
        with open(path, encoding="utf-8") as stream:
            text += stream.read()
    more = [t for t in ALLOWED_ATTN_LAYER_TYPES if f'"{t}"' in text and t not in layer_types]
    out = list(layer_types)
    for i in range(len(out) - 1, 0, -1):
        if more and out[i] in out[:i]:
            out[i] = more.pop(0)
    return out
