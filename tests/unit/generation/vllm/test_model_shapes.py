"""Which layers a server adapts follows from the weights' names, whatever their sizes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from seal_core.errors import InputError
from seal_core.models.model_shapes import linear_shapes, target_names
from tests.models import save_qwen2

LINEAR = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]


@pytest.mark.parametrize("intermediate", [48, 300])
def test_all_layers_of_the_blocks_and_nothing_else(tmp_path: Path, intermediate: int) -> None:
    """Also those that are larger than a vocabulary of 257 tokens."""
    shapes = linear_shapes(str(save_qwen2(tmp_path, intermediate=intermediate)))
    assert target_names(shapes) == LINEAR and len(shapes) == 2 * len(LINEAR)
    assert shapes["model.layers.1.mlp.up_proj"] == (intermediate, 32)


def test_files_that_the_library_does_not_load_are_left_out(tmp_path: Path) -> None:
    """Mistral's folders hold the weights twice, under other names."""
    shapes = linear_shapes(str(save_qwen2(tmp_path)))
    save_file({"layers.0.wq.weight": np.zeros((4, 4))}, tmp_path / "consolidated.safetensors")
    assert linear_shapes(str(tmp_path)) == shapes
    (tmp_path / "model.safetensors").rename(tmp_path / "model-1.safetensors")
    index = {"metadata": {}, "weight_map": {"lm_head.weight": "model-1.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert linear_shapes(str(tmp_path)) == shapes


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    save_qwen2(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(InputError, match="cannot load the weights of"):
        linear_shapes(str(tmp_path))
