"""Only adapters that PEFT computes as plain LoRA are read; all others are refused by name."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import save_file

from seal_core.errors import InputError
from seal_core.models.files.adapter_files import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    read_adapter,
    write_adapter,
)
from seal_core.models.loading import load_model
from seal_core.models.lora_layers import LinearLayers

HARMLESS = {
    *("task_type", "peft_type", "auto_mapping", "peft_version", "base_model_name_or_path"),
    *("revision", "inference_mode", "r", "target_modules", "exclude_modules", "lora_alpha"),
    *("lora_dropout", "fan_in_fan_out", "use_rslora", "layers_to_transform", "layers_pattern"),
    *("rank_pattern", "alpha_pattern", "megatron_core", "eva_config", "qalora_group_size"),
}
ODD = sorted({field.name for field in fields(peft.LoraConfig)} - HARMLESS - {"runtime_config"})


def folder_with(folder: Path, **settings: Any) -> Path:
    """An adapter with these settings among PEFT's defaults."""
    write_adapter(folder, {"a": (torch.ones(2, 3), torch.ones(4, 2))}, 4.0, 0.0, "base", ["a"])
    config = peft.LoraConfig(r=2, lora_alpha=4, target_modules=["a"]).to_dict()
    config["target_modules"] = ["a"]
    (folder / CONFIG_FILE).write_text(json.dumps({**config, **settings}))
    return folder


def test_every_setting_of_peft_but_the_harmless_ones_is_refused(tmp_path) -> None:
    assert {"use_dora", "target_parameters", "alora_invocation_tokens", "lora_bias"} < set(ODD)
    assert read_adapter(folder_with(tmp_path / "plain"))["a"].scale == 2
    for name in [*ODD, "a_later_variant"]:
        with pytest.raises(InputError, match=rf"adapter .* uses {name}\b.*only plain LoRA"):
            read_adapter(folder_with(tmp_path / name, **{name: "on"}))


@pytest.mark.parametrize("start", ["pissa", "pissa_niter_4", "olora", "loftq", "corda", "lora_ga"])
def test_starts_that_change_the_base_are_refused(tmp_path, start) -> None:
    with pytest.raises(InputError, match=f"init_lora_weights = '{start}'"):
        read_adapter(folder_with(tmp_path / "a", init_lora_weights=start))


@pytest.mark.parametrize(
    "settings",
    [
        {"lora_alpha": "8"},
        {"lora_alpha": None},
        {"alpha_pattern": ["a"]},
        {"alpha_pattern": {"(": 2}},
    ],
)
def test_malformed_settings_are_one_line(tmp_path, settings) -> None:
    with pytest.raises(InputError, match="lora_alpha or alpha_pattern"):
        read_adapter(folder_with(tmp_path / "a", **settings))


def test_weights_of_another_shape_are_one_line(tmp_path) -> None:
    folder = folder_with(tmp_path / "a")
    weights = {f"base_model.model.a.lora_{half}.weight": torch.ones(2) for half in "AB"}
    save_file(weights, folder / WEIGHTS_FILE)
    with pytest.raises(InputError, match="A and B of a do not fit each other"):
        read_adapter(folder)


@pytest.mark.parametrize(
    "settings",
    [
        {"init_lora_weights": "gaussian"},
        {"use_rslora": True},
        {"alpha_pattern": {"q_proj": 3, r"layers\.1\.mlp\.up_proj": 5}},
        {"rank_pattern": {"v_proj": 2}, "layers_to_transform": [1]},
        {"exclude_modules": ["o_proj"], "bias": "none", "lora_dropout": 0.5},
    ],
)
def test_what_is_read_is_what_peft_computes(model_path, tmp_path, settings) -> None:
    loaded = load_model(model_path, dtype="float64")
    targets = ["q_proj", "v_proj", "up_proj"]
    config = peft.LoraConfig(r=4, lora_alpha=6, target_modules=targets, **settings)
    wrapped = peft.get_peft_model(load_model(model_path, dtype="float64").model, config).eval()
    generator = torch.Generator().manual_seed(0)
    for name, weight in wrapped.named_parameters():
        if "lora_" in name:
            weight.data = torch.randn(weight.shape, generator=generator).double() * 0.3
    wrapped.save_pretrained(str(tmp_path))
    ids = torch.tensor([[5, 7, 9, 11]])
    LinearLayers(loaded.model).merge((str(tmp_path),))
    with torch.no_grad():
        expected = wrapped(input_ids=ids).logits
        assert (loaded.model(input_ids=ids).logits - expected).abs().max() <= 1e-9
