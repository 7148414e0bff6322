"""Model folders are checked and digested without loading them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import constants

from seal_core.errors import InputError
from seal_core.models.loading import load_model
from seal_core.models.model_files import check_model_folder, model_digest


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
    index = {"metadata": {}, "weight_map": {"a": "model-1.safetensors", "b": "model.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match=r"lacks the weights model-1\.safetensors"):
        check_model_folder(str(folder))
    (folder / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(InputError, match="not a weights index"):
        check_model_folder(str(folder))
    with pytest.raises(InputError, match="no model folder and no hub id"):
        check_model_folder(str(tmp_path / "nowhere"))
    check_model_folder("Qwen/Qwen2.5-7B")


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
    with pytest.raises(InputError, match="no dtype"):
        load_model(str(folder), dtype="float1")


def test_the_digest_is_of_names_and_contents(folder, model_path, tmp_path) -> None:
    first = model_digest(str(folder))
    assert first == model_digest(model_path)
    (folder / "README.md").write_text("a note")
    assert model_digest(str(folder)) == first
    config = folder / "config.json"
    config.write_text(config.read_text() + "\n")
    assert model_digest(str(folder)) != first


def test_the_cache_spares_hashing_until_a_file_changes(folder, tmp_path) -> None:
    cache = tmp_path / "cache" / "digests.json"
    first = model_digest(str(folder), cache_path=cache)
    known = json.loads(cache.read_text())
    assert str(folder / "config.json") in known
    weights = folder / "model.safetensors"
    known[str(weights)][-1] = "0" * 64
    cache.write_text(json.dumps(known))
    faked = model_digest(str(folder), cache_path=cache)
    assert faked != first  # The cached digest was believed.
    os.utime(weights, ns=(1, 1))
    assert model_digest(str(folder), cache_path=cache) == first
    cache.write_text("{")
    assert model_digest(str(folder), cache_path=cache) == first


@pytest.mark.parametrize("in_place", [True, False])
def test_other_weights_of_the_same_size_and_time_are_another_model(
    folder, tmp_path, in_place
) -> None:
    """As `cp -p`, `rsync -t` and image layers leave them."""
    cache, weights = tmp_path / "digests.json", folder / "model.safetensors"
    first, stat = model_digest(str(folder), cache_path=cache), weights.stat()
    other = bytearray(weights.read_bytes())
    other[-1] ^= 1
    place = weights if in_place else tmp_path / "other"
    place.write_bytes(other)
    os.utime(place, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    place.rename(weights)
    assert (weights.stat().st_size, weights.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)
    found = model_digest(str(folder), cache_path=cache)
    assert found != first
    assert found == model_digest(str(folder))


def test_rehash_believes_nothing_of_this_model_and_keeps_the_others(folder, tmp_path) -> None:
    cache = tmp_path / "digests.json"
    first = model_digest(str(folder), cache_path=cache)
    known = json.loads(cache.read_text())
    known[str(folder / "model.safetensors")][-1] = "0" * 64
    known["/another/model.safetensors"] = [1, 2, 3, 4, "f" * 64]
    cache.write_text(json.dumps(known))
    assert model_digest(str(folder), cache_path=cache) != first
    assert model_digest(str(folder), cache_path=cache, rehash=True) == first
    assert model_digest(str(folder), cache_path=cache) == first
    assert json.loads(cache.read_text())["/another/model.safetensors"][-1] == "f" * 64


def test_a_folder_with_an_adapter_in_it_is_refused(folder) -> None:
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(InputError, match=r"adapter_config\.json.*merge it first"):
        check_model_folder(str(folder))


def test_a_hub_model_is_its_commit(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match="hf download"):
        model_digest("org/name")
    commit = "0123456789abcdef0123456789abcdef01234567"
    repo = tmp_path / "models--org--name"
    (repo / "snapshots" / commit).mkdir(parents=True)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commit)
    assert model_digest("org/name") == model_digest("org/name", commit) == commit


def test_checks_import_no_torch() -> None:
    code = (
        "import sys, seal_core.models.model_files, seal_core.process.pool; "
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
    for use in (check_model_folder, load_model, model_digest):
        with pytest.raises(InputError, match=rf"is quantized \({name}\): LoRA on quantized"):
            use(str(folder))


def test_a_quantized_hub_model_is_refused_before_it_is_loaded(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    commit = "0123456789abcdef0123456789abcdef01234567"
    snapshot = tmp_path / "models--org--name" / "snapshots" / commit
    snapshot.mkdir(parents=True)
    config = {"quantization_config": {"quant_method": "bitsandbytes"}}
    (snapshot / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"org/name is quantized \(bitsandbytes\)"):
        model_digest("org/name", commit)


def test_a_config_that_is_no_json_object_is_named(folder) -> None:
    for text in ("{", "[]"):
        (folder / "config.json").write_text(text)
        with pytest.raises(InputError, match=r"config\.json is"):
            check_model_folder(str(folder))
