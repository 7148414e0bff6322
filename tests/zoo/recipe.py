"""Builds a tiny model of any causal type, with random weights and a tokenizer, in a folder.

    python -m tests.zoo.recipe FOLDER [--types a,b]

builds all of them and prints which cannot be built, and why.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import json
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from tests.zoo.configs import Recipe, recipes, tiny_config
from tests.zoo.crew import Outcome, run_all
from tests.zoo.vocabulary import save_tokenizer
from tests.zoo.weights import UnfitError, check_answers, check_fitness, draw_weights

SECONDS = 60
MEMORY = 6 << 30

_KINDS = ("full_attention", "sliding_attention")
_ROPE = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}
_QWEN4 = {
    "layer_types": ["linear_attention", "indexed_attention"],
    "indexer_n_heads": 4,
    "indexer_kv_heads": 1,
    "indexer_head_dim": 8,
    "indexer_budget": 8,
    "indexer_compress_ratio": 4,
    "ple_layer_ids": [1],
}
_INDEXER = "its default config leaves the indexer of its attention out"

OVERRIDES: dict[str, tuple[dict[str, Any], str]] = {
    "bamba": (
        {"attn_layer_indices": [1]},
        "its default config has no layer with attention, without which it does not answer",
    ),
    "cohere_compass_text": (
        {"rope_parameters": dict.fromkeys(_KINDS, _ROPE)},
        "its default config has no rotary positions, which it needs by kind of layer",
    ),
    "dbrx": (
        {"attn_config": {"kv_n_heads": 2, "rope_theta": 1e4, "clip_qkv": 8.0}},
        "its default config lacks the rotary base",
    ),
    "gpt_neo": (
        {"attention_types": [[["global", "local"], 1]]},
        "its layers are described by a nested list",
    ),
    "moshi": ({"sliding_window": 256}, "the product lets no row reach its window"),
    "qwen4_exp": ({"text_config": _QWEN4}, _INDEXER),
    "qwen4_exp_text": (_QWEN4, _INDEXER),
    "reformer": (
        {"axial_pos_embds": False, "is_decoder": True},
        "its factored positions have to multiply to the length of every row",
    ),
    "xlstm": (
        {"hidden_size": 64, "qk_dim_factor": 1.0},
        "it rounds widths up to 64, and then finds that they do not fit its hidden size",
    ),
    "xmod": ({"default_language": "en_XX"}, "it has one adapter per language and needs a choice"),
}
"""Fields of single types that no rule gets right, each with the reason."""


def all_types() -> list[str]:
    """Every type that the installed library can load as a causal language model."""
    return sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def build(model_type: str, folder: Path) -> dict[str, Any]:
    """Saves a tiny model of the type, and its tokenizer, into the folder.

    Returns:
        What was built: class, layers, and the recipe that worked.

    Raises:
        UnfitError: No recipe works; the message says why the first and the last do not.
    """
    overrides, _ = OVERRIDES.get(model_type, ({}, ""))
    errors = []
    # Some kinds of layer only fail when they answer. A type that never answers is still a model.
    for answers, recipe in [(answers, r) for answers in (True, False) for r in recipes()]:
        try:
            return _build_by(model_type, recipe, overrides, folder, answers)
        except Exception as error:  # The library's own, of any kind: it is the answer here.
            errors.append(f"{type(error).__name__}: {_first_line(error)}")
            shutil.rmtree(folder, ignore_errors=True)
    raise UnfitError(" | ".join(dict.fromkeys([errors[0], errors[-1]])))


def _build_by(
    model_type: str, recipe: Recipe, overrides: Mapping[str, Any], folder: Path, answers: bool
) -> dict[str, Any]:
    torch.manual_seed(0)
    config = tiny_config(CONFIG_MAPPING[model_type], recipe, overrides)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    draw_weights(model)
    check_fitness(model)
    if answers:
        check_answers(model)
    model.save_pretrained(folder)
    if type(model.config) is not type(config):
        config.save_pretrained(folder)  # As people have it: the class takes its part of it.
    _check_loading(model, folder)
    save_tokenizer(folder)
    kinds = getattr(model.config.get_text_config(), "layer_types", None) or []
    return {
        "class": type(model).__name__,
        "layers": dict(collections.Counter(kinds)),
        "weights": sum(p.numel() for p in model.parameters()),
        "answers": answers,
        "recipe": dataclasses.asdict(recipe),
    }


def _check_loading(model: Any, folder: Path) -> None:
    """Loads the model back.

    Raises:
        UnfitError: The library does not find all weights in what it saved.
    """
    loaded: Any = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    missing = loaded[1]["missing_keys"]
    if missing:
        raise UnfitError(f"it does not find the weights {sorted(missing)[:3]} that it saved")


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:250]


def main() -> None:
    """Builds types into a folder and prints what came of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--types", default="", help="comma-separated; all by default")
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    names = options.types.split(",") if options.types else all_types()
    failed = 0
    calls = [(name, (name, options.folder / name)) for name in names]
    for name, outcome in run_all(build, calls, SECONDS, MEMORY, options.jobs):
        print(_line(name, outcome), flush=True)
        failed += outcome.error is not None
    print(f"{len(names) - failed} of {len(names)} built")


def _line(name: str, outcome: Outcome) -> str:
    said = outcome.error or json.dumps(outcome.value)
    return f"{'-' if outcome.error else '+'} {name} ({outcome.seconds:.1f} s): {said}"


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
