"""Model folders are checked without loading them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from seal_core.errors import InputError
from seal_core.models.files.model_digest import digest_model
from seal_core.models.files.model_files import check_model_folder, weight_files
from seal_core.models.loading import load_model
from seal_core.models.text.tokenizers import load_tokenizer


@pytest.fixture
def folder(model_path, tmp_path) -> Path:
    return Path(shutil.copytree(model_path, tmp_path / "model"))


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("config.json", r"no config\.json"),
        ("tokenizer.json", "no tokenizer"),
        ("model.safetensors", r"no model\.safetensors"),
    ],
)
def test_an_incomplete_folder_is_named(folder, missing, message) -> None:
    check_model_folder(str(folder))
    (folder / missing).unlink()
    with pytest.raises(InputError, match=message):
        check_model_folder(str(folder))
    with pytest.raises(InputError, match=message):
        load_model(str(folder))


def test_missing_shards_and_odd_paths_are_named(folder, tmp_path) -> None:
    index = {"metadata": {}, "weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (folder / "model.safetensors").rename(folder / "model-2.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match=r"lacks the weights model-1\.safetensors"):
        check_model_folder(str(folder))
    (folder / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(InputError, match="not a weights index"):
        check_model_folder(str(folder))
    with pytest.raises(InputError, match="is no model folder"):
        check_model_folder(str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    "text", ["{}", '{"metadata": {}, "weight_map": {"a": "part.safetensors"}}']
)
def test_whole_weights_come_before_an_index_as_in_the_library(folder, text) -> None:
    before = digest_model(str(folder)).digest
    (folder / "model.safetensors.index.json").write_text(text)
    (folder / "part.safetensors").write_text("left from weights before these")
    check_model_folder(str(folder))
    assert weight_files(folder) == [folder / "model.safetensors"]
    assert digest_model(str(folder)).digest == before
    loaded = load_model(str(folder)).model.state_dict()
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).state_dict()
    assert all(torch.equal(weights, plain[name]) for name, weights in loaded.items())


@pytest.mark.parametrize(
    ("file", "setting", "usual"),
    [
        ("config.json", {"transformers_weights": "a.safetensors"}, "model.safetensors"),
        (
            "config.json",
            {"text_config": {"transformers_weights": "a.safetensors"}},
            "model.safetensors",
        ),
        ("config.json", {"configuration_files": ["config.4.0.0.json"]}, "config.json"),
        ("tokenizer_config.json", {"fast_tokenizer_files": ["tokenizer.4.json"]}, "tokenizer.json"),
        ("tokenizer_config.json", {"gguf_file": "a.gguf"}, "tokenizer.json"),
        ("tokenizer_config.json", {"vocab": "/else/vocab.json"}, "tokenizer.json"),
        ("tokenizer_config.json", {"init_inputs": ["/else/vocab.json"]}, "tokenizer.json"),
        ("special_tokens_map.json", {"tokenizer_file": "/else/t.json"}, "tokenizer.json"),
    ],
)
def test_a_setting_that_names_another_file_to_read_is_refused(folder, file, setting, usual) -> None:
    place = folder / file
    plain = json.loads(place.read_text()) if place.exists() else {}
    place.write_text(json.dumps({**plain, **setting}))
    told = rf"has \w+ = .* in its {file}, which names other files .*{usual}"
    for use in (check_model_folder, load_model):
        with pytest.raises(InputError, match=told):
            use(str(folder))


def test_settings_that_name_no_file_or_are_not_followed_are_fine(folder) -> None:
    """What old releases saved: the library takes its own files in place of these."""
    place = folder / "tokenizer_config.json"
    saved = {"init_inputs": [], "tokenizer_file": "/else/t.json", "vocab_file": "/else/v.json"}
    place.write_text(json.dumps({**json.loads(place.read_text()), **saved}))
    check_model_folder(str(folder))
    assert load_tokenizer(str(folder)).encode("text")


def test_broken_weights_are_the_users_error(folder) -> None:
    (folder / "model.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(InputError, match="cannot load"):
        load_model(str(folder))


def test_weights_of_another_model_are_refused(folder) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["num_hidden_layers"] += 1
    config["layer_types"] += config["layer_types"][:1]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"weights of .* lack"):
        load_model(str(folder))


def test_bad_options_are_named(folder) -> None:
    with pytest.raises(InputError, match="no device"):
        load_model(str(folder), device="quantum")
    for device in ("mps", "meta", "xla", "hpu"):
        with pytest.raises(InputError, match=f"no {device} that torch could use here .*=cpu$"):
            load_model(str(folder), device=device)
    with pytest.raises(InputError, match="no dtype"):
        load_model(str(folder), dtype="float1")


def test_a_folder_with_an_adapter_in_it_is_refused(folder) -> None:
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(InputError, match=r"adapter_config\.json.*merge it first"):
        check_model_folder(str(folder))


def test_checks_import_no_torch() -> None:
    code = (
        "import sys, seal_core.models.files.model_place, seal_core.process.pool; "
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    ("quantized", "name"),
    [
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "gptq"),
        ({"quantization_config": {"quant_method": "awq"}}, "awq"),
        ({"quantization_config": {"load_in_4bit": True}}, "quantization_config"),
        ({"text_config": {"quantization_config": {"quant_method": "fp8"}}}, "fp8"),
    ],
)
def test_quantized_weights_are_refused_by_name(folder, quantized, name) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | quantized))
    for use in (check_model_folder, load_model):
        with pytest.raises(InputError, match=rf"is quantized \({name}\): LoRA on quantized"):
            use(str(folder))


def test_a_config_that_is_no_json_object_is_named(folder) -> None:
    for text in ("{", "[]"):
        (folder / "config.json").write_text(text)
        with pytest.raises(InputError, match=r"config\.json is"):
            check_model_folder(str(folder))
