"""An estimate counts what the run then makes, and a disk that is too small is refused beforehand.

1. Self-edits, adapters and answers of the embedded demo, by hand.
2. What is kept at the most, and the bytes of an adapter, as written.
3. A run that the disk cannot hold names the settings that would do.
"""

from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from flows.estimating import _adapter_bytes, check_room, estimate, estimate_lines
from flows.loading import load_config
from seal_core.engines import TrainJob
from seal_core.errors import InputError
from seal_core.models.files.adapter_files import WEIGHTS_FILE
from seal_core.models.loading import load_model
from seal_core.training.peft_trainer import PeftTrainer
from seal_core.types import TrainRow
from tasks.opening.preflight import Preflight, preflight
from tasks.stages.finetune import to_settings
from tasks.stages.lora import lora_settings

ROOT = Path(__file__).parents[3]
Usage = namedtuple("Usage", "total used free")


def checked(tmp_path: Path, *settings: str) -> Preflight:
    given = [f"execution.store={tmp_path / 'store'}", *settings]
    return preflight(load_config(ROOT / "configs/demo.toml", given), "x")


def test_units_and_bytes(tmp_path: Path) -> None:
    """1, 2"""
    small = checked(
        tmp_path,
        *("data.limit=6", "data.heldout_limit=4", "run.rounds=2", "heldout.repeats=2"),
        *("sample.edits_per_problem=3", "finetune.repeats=2", "heldout.crossed=true"),
    )
    found = estimate(small)
    n_questions = 6
    train, heldout = 6 * 3 * 2, 4 * 3
    assert found.edits == train + heldout
    # Rounds of training; held-out: three policies, two controls, two crossed.
    adapters = train * 2 + 4 * 2 * (3 + 2 + 2)
    assert found.adapters == adapters
    # The baseline and in context on held-out problems, and the baseline of each round.
    assert found.answers == n_questions * (adapters + 2 * 4 + 2 * 6)
    assert found.edit_tokens == 128 * found.edits and found.seconds is None
    largest = 4 * 2 * (2 + 2)  # Of the controls; another round has 36 + 8 adapters.
    assert found.disk is not None and found.adapter_bytes is not None
    last = 4 * 2  # Of the last round: they and those of the controls are there together.
    most = max(largest + last, 36 + 8)
    policies = 2 * 2 * found.adapter_bytes  # Twice the rank.
    assert found.disk == {
        "all": found.adapter_bytes * adapters + policies,
        "selected": found.adapter_bytes * (most + 6 * 2 * 2) + policies,
        "none": found.adapter_bytes * most + policies,
    }
    assert f"{adapters} adapters" in estimate_lines(found)[0]


def test_experts_are_not_taken_for_layers() -> None:
    """2"""
    layer, expert = "model.layers.0.self_attn.q_proj", "model.layers.0.mlp.experts.3.up_proj"
    assert _adapter_bytes(2, ("all-linear",), {layer: (8, 4)}) == 2 * 12 * 4
    assert _adapter_bytes(2, ("all-linear",), {layer: (8, 4), expert: (8, 4)}) is None


def test_an_adapter_is_as_large_as_said(tmp_path: Path) -> None:
    """2"""
    own = checked(tmp_path)
    job = TrainJob("a", (TrainRow("A text."),), to_settings(lora_settings(own.config.finetune)), 1)
    PeftTrainer(load_model(own.model_path)).train([job], tmp_path)
    written = (tmp_path / "a" / WEIGHTS_FILE).stat().st_size
    said = estimate(own).adapter_bytes
    assert said is not None and said <= written < 1.05 * said


def test_a_full_disk_is_seen_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """3"""
    own = checked(tmp_path)
    free = (estimate(own).disk or {})["selected"] + 1

    def usage(path: Any) -> Usage:
        assert Path(path) == tmp_path
        return Usage(10**12, 0, free)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    words = r"1100 adapters .* free .*keep_adapters = 'selected' .*, .* = 'none' .*finetune\.rank"
    with pytest.raises(InputError, match=words):
        check_room(own)
    check_room(checked(tmp_path, "execution.keep_adapters=selected"))
