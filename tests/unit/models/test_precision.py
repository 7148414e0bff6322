"""The precision of a model is known before it is loaded, and is the one it is loaded in."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from seal_core.errors import InputError
from seal_core.minilm import weights_path
from seal_core.models import precision
from seal_core.models.precision import own_precision, used_precision


@pytest.fixture
def folder(model_path, tmp_path) -> Path:
    return Path(shutil.copytree(model_path, tmp_path / "model"))


def save_as(folder: Path, dtype: torch.dtype, *, said: bool = True) -> None:
    """Saves the model in another precision; its config may leave out which."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    model.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    if not said:
        config.pop("dtype", None)
        (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("said", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_checkpoints_own_precision_is_what_the_library_would_take(folder, dtype, said) -> None:
    save_as(folder, dtype, said=said)
    loaded = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    assert str(loaded.dtype) == f"torch.{own_precision(str(folder))}" == str(dtype)


def test_auto_is_float32_on_a_cpu_and_the_checkpoints_own_on_a_gpu(monkeypatch) -> None:
    path = str(weights_path())
    assert used_precision(path, "auto", "cpu") == "float32"
    assert used_precision(path, "auto", "cuda:1") == "bfloat16"
    for found, name in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(precision, "_has_gpu", lambda found=found: found)
        assert used_precision(path, "auto", "auto") == name
    assert used_precision(path, "float16", "auto") == "float16"


def test_torch_is_asked_for_a_gpu_where_there_may_be_one(monkeypatch) -> None:
    ask = precision._has_gpu.__wrapped__
    monkeypatch.setattr(precision, "_GPU_FILES", ("null",))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert ask() == torch.cuda.is_available()
    monkeypatch.setattr(precision.sys, "executable", "/nowhere/python")
    with pytest.raises(InputError, match=r"cannot ask torch for a GPU .* execution\.device"):
        ask()
    monkeypatch.setattr(precision, "_GPU_FILES", ("no-such-device*",))
    assert ask() is False
    monkeypatch.setattr(precision, "_GPU_FILES", ("null",))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert ask() is False


def test_a_precision_that_nothing_is_computed_in_is_refused_by_name(folder) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"dtype": "float8_e4m3fn"}))
    with pytest.raises(InputError, match=r"are in float8_e4m3fn.*set model\.dtype"):
        own_precision(str(folder))
    (folder / "config.json").write_text("[]")
    with pytest.raises(InputError, match=r"config\.json is no model's config"):
        own_precision(str(folder))
    config.pop("dtype")
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(b"\xff" * 20)
    with pytest.raises(InputError, match=r"model\.safetensors is not a safetensors file"):
        own_precision(str(folder))
