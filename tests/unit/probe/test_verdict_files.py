"""Verdicts are remembered by all that they depend on, and a damaged record is none."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from seal_core.models.loading import device_name, load_model
from seal_core.probe import known_verdict as knowing
from seal_core.probe import model_check, verdict_files
from seal_core.probe.known_verdict import known_verdict
from seal_core.probe.verdict_files import VerdictFiles, recorded_verdict, remembered_verdicts


@pytest.fixture
def files(tmp_path) -> VerdictFiles:
    return VerdictFiles("digest", str(tmp_path / "known"), str(tmp_path / "run" / "model.json"))


@pytest.fixture
def tried(monkeypatch) -> list[str]:
    """The models that were tried, which a remembered verdict saves."""
    names: list[str] = []
    check = model_check.check_model

    def counted(loaded, *arguments):
        names.append(str(loaded.model.dtype))
        return check(loaded, *arguments)

    monkeypatch.setattr(knowing, "check_model", counted)
    return names


def test_a_verdict_is_remembered_and_recorded(model_path, files, tried, tmp_path) -> None:
    loaded = load_model(model_path)
    first = known_verdict(loaded, ("q_proj", "v_proj"), files)
    again = known_verdict(load_model(model_path), ("v_proj", "q_proj"), files)
    assert first == again and first.is_fast and tried == ["torch.float32"]
    assert recorded_verdict(tmp_path / "run" / "model.json") == first
    assert remembered_verdicts(tmp_path / "known") == [
        (f"{Path(model_path).name} (float32, cpu)", first)
    ]


def test_anything_else_is_tried_anew(model_path, files, tried, monkeypatch) -> None:
    known_verdict(load_model(model_path), ("q_proj",), files)
    known_verdict(load_model(model_path), ("v_proj",), files)
    known_verdict(load_model(model_path), ("q_proj",), replace(files, model_digest="other"))
    known_verdict(load_model(model_path, dtype="bfloat16"), ("q_proj",), files)
    versions = {"torch": "9.9.0", "causal-conv1d": "1.0"}
    for name in versions:
        known = verdict_files._version

        def version(asked, name=name, known=known):
            return versions[name] if asked == name else known(asked)

        monkeypatch.setattr(verdict_files, "_version", version)
        known_verdict(load_model(model_path), ("q_proj",), files)
    monkeypatch.setattr(verdict_files, "own_code", lambda: "other code")
    known_verdict(load_model(model_path), ("q_proj",), files)
    monkeypatch.setattr(knowing, "processor", lambda: "another CPU")
    known_verdict(load_model(model_path), ("q_proj",), files)
    known_verdict(load_model(model_path), ("q_proj",), VerdictFiles())
    known_verdict(load_model(model_path), ("q_proj",), files, fill=True)
    assert tried == ["torch.float32"] * 3 + ["torch.bfloat16"] + ["torch.float32"] * 6


def test_verdicts_of_other_code_are_not_shown(model_path, files, monkeypatch, tmp_path) -> None:
    known_verdict(load_model(model_path), ("q_proj",), files)
    with monkeypatch.context() as patch:
        patch.setattr(verdict_files, "own_code", lambda: "other code")
        assert remembered_verdicts(tmp_path / "known") == []
        plain = known_verdict(load_model(model_path), ("v_proj",), files)
        assert [verdict for _, verdict in remembered_verdicts(tmp_path / "known")] == [plain]
    assert len(remembered_verdicts(tmp_path / "known")) == 1


def test_a_verdict_is_of_the_models_own_gpu(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU {device.index}")
    assert device_name(torch.device("cuda:1")) == "GPU 1"
    assert device_name(torch.device("cpu")) == "cpu"


@pytest.mark.parametrize("damage", ["", "{", "[]", "{}", "[" * 100_000])
def test_a_damaged_record_is_written_again(model_path, files, tried, tmp_path, damage) -> None:
    first = known_verdict(load_model(model_path), ("q_proj",), files)
    (path,) = (tmp_path / "known").iterdir()
    path.write_text(damage)
    assert remembered_verdicts(tmp_path / "known") == []
    assert known_verdict(load_model(model_path), ("q_proj",), files) == first
    assert len(tried) == 2 and "verdict" in json.loads(path.read_text())


def test_memory_that_ran_out_is_no_verdict(model_path, files, monkeypatch, tmp_path) -> None:
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    for name in ("plain_answers", "batched_logits", "batched_gradients"):
        with monkeypatch.context() as patch:
            patch.setattr(model_check, name, full)
            with pytest.raises(torch.OutOfMemoryError):
                known_verdict(load_model(model_path), ("q_proj",), files)
    assert not (tmp_path / "known").exists()


def test_memory_that_ran_out_on_a_cpu_is_not_remembered(
    model_path, files, monkeypatch, tmp_path
) -> None:
    def full(*_):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: 1 byte")

    with monkeypatch.context() as patch:
        patch.setattr(model_check, "batched_logits", full)
        assert known_verdict(load_model(model_path), ("q_proj",), files).generator == "plain"
    assert known_verdict(load_model(model_path), ("q_proj",), files).is_fast
