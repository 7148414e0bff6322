"""The tiny config of any type: few layers, at least one of every kind that the type has."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig
from transformers.configuration_utils import ALLOWED_ATTN_LAYER_TYPES

from tests.zoo.shrink import HEADS, Shrinker
from tests.zoo.vocabulary import EOS, PAD

_LAYERS = re.compile(
    r"^(num_|n_|decoder_|encoder_|num_decoder_|num_encoder_)?(hidden_)?(layers?|blocks|layers_per_stack)$|^depth$|hidden_layers$"
)
_BASE = {field.name for field in dataclasses.fields(PreTrainedConfig)} - {
    "pad_token_id",
    "eos_token_id",
    "bos_token_id",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Recipe:
    """How much of what is interesting a config gets; a type may not allow all of it.

    Attributes:
        kv_heads: Heads of keys and values, of four.
        all_kinds: Layers of every kind that the model's source names, even if its default
            config has fewer.
        fill: Give sizes that the default leaves empty a number; some defaults are incomplete.
        twice: Two layers of each kind, for kinds that share weights with each other.
        per_layer: Give lists of one entry per layer; otherwise the config makes its own.
    """

    kv_heads: int = 2
    all_kinds: bool = True
    fill: bool = False
    twice: bool = False
    per_layer: bool = True


def recipes() -> list[Recipe]:
    """From the most telling to the plainest; the first that works is taken."""
    found = [
        Recipe(kv_heads, all_kinds, fill, twice)
        for all_kinds in (True, False)
        for twice in (False, True)
        for fill in (False, True)
        for kv_heads in (2, HEADS)
    ]
    return [*found, Recipe(HEADS, all_kinds=False, per_layer=False)]


def tiny_config(kind: Any, recipe: Recipe, overrides: Mapping[str, Any]) -> Any:
    """A config of the class `kind`, shrunk field by field from its defaults."""
    default = kind()
    known = default.to_dict()
    known |= {ours: known[own] for ours, own in kind.attribute_map.items() if own in known}
    shrinker = Shrinker(recipe.kv_heads)
    fields = {f.name: f for f in dataclasses.fields(kind) if f.name not in _BASE}
    parts = {n: getattr(default, n) for n in kind.sub_configs or {}}
    values: dict[str, Any] = {}
    for name, field in fields.items():
        part = parts.get(name)
        if isinstance(part, PreTrainedConfig):
            values[name] = tiny_config(type(part), recipe, overrides.get(name, {}))
        elif known.get(name) is None and recipe.fill and "int" in str(field.type):
            values[name] = shrinker.size(name)
        elif field.default is not None or name.endswith("_token_id"):
            values[name] = shrinker.value(name, known.get(name))
    lists = _lists(known, fields)
    picks = _picked_layers(known, lists, recipe)
    values.update({n: len(picks) for n in fields if _LAYERS.search(n) and n in values})
    if recipe.per_layer:
        values.update(_cut(kind, lists, picks, shrinker, recipe))
    if "use_sliding_window" in fields and "sliding_attention" in values.get("layer_types", ()):
        values["use_sliding_window"] = True  # Else the layers that have windows would ignore them.
    # As in the tokenizer, whatever the default says: some kinds of layer look for these tokens.
    values.update({n: t for n, t in (("eos_token_id", EOS), ("pad_token_id", PAD)) if n in fields})
    whole = {n: v for n, v in overrides.items() if not isinstance(parts.get(n), PreTrainedConfig)}
    values.update(whole)
    return kind(**{n: v for n, v in values.items() if v is not None})


def _layer_count(known: Mapping[str, Any]) -> int:
    """Layers of the default config."""
    counts = [known.get(name) for name in ("num_hidden_layers", "num_layers", "n_layer")]
    return next((count for count in counts if isinstance(count, int)), 1)


def _lists(known: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Lists with one entry per layer."""
    count = _layer_count(known)
    found = {name: known.get(name) for name in fields}
    return {n: list(v) for n, v in found.items() if isinstance(v, list | tuple) and len(v) == count}


def _picked_layers(
    known: Mapping[str, Any], lists: Mapping[str, list[Any]], recipe: Recipe
) -> list[int]:
    """Indices into the default's layers: the first of each kind, at least two.

    Layers that share keys and values take them from earlier ones of their kind, so then every
    kind is there twice.
    """
    columns = [v for v in lists.values() if all(isinstance(one, str) for one in v)]
    rows = list(zip(*columns, strict=True)) or [()] * _layer_count(known)
    first = sorted({row: i for i, row in reversed(list(enumerate(rows)))}.values())
    twice = recipe.twice or len(first) == 1 or known.get("num_kv_shared_layers")
    return first * 2 if twice else first


def _cut(
    kind: Any,
    lists: Mapping[str, list[Any]],
    picks: list[int],
    shrinker: Shrinker,
    recipe: Recipe,
) -> dict[str, Any]:
    """The lists with one entry per layer, cut to the picked layers."""
    cut = {name: [shrinker.value(name, v[i]) for i in picks] for name, v in lists.items()}
    if recipe.all_kinds and (cut.get("layer_types") or "layer_types" in _names(kind)):
        cut["layer_types"] = _with_all_kinds(kind, cut.get("layer_types"), len(picks))
    return cut


def _names(kind: Any) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)}


def _with_all_kinds(kind: Any, layer_types: list[str] | None, count: int) -> list[str] | None:
    """The list with kinds that the source names put in place of repeated ones."""
    path = Path(inspect.getsourcefile(kind) or "")
    files = [path, path.with_name(path.name.replace("configuration_", "modeling_"))]
    text = "".join(file.read_text() for file in files if file.is_file())
    named = [t for t in ALLOWED_ATTN_LAYER_TYPES if f'"{t}"' in text]
    if not named:
        return layer_types
    out = list(layer_types or [named[0]] * count)
    more = [name for name in named if name not in out]
    for i in range(len(out) - 1, 0, -1):
        if more and out[i] in out[:i]:
            out[i] = more.pop(0)
    return out
