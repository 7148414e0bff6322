"""What `seal model check` says before it loads a model, and of what a run will not use of one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app
from seal_core.errors import InputError
from seal_core.models.loading import load_model
from seal_core.probe.model_report import model_report
from seal_core.probe.verdict import Verdict
from tests.models import save_qwen2

VERDICT = Verdict("batched", "packed", None, ())


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--dtype", "int8", "model.dtype = 'int8': input should be 'auto', 'float32'"),
        (
            "--device",
            "foo",
            "'foo' is no device: set execution.device to auto, cpu, cuda or cuda:1",
        ),
        ("--device", "mps", "there is no mps that torch could use here"),
    ],
)
def test_an_option_of_no_use_is_one_line(option: str, value: str, message: str) -> None:
    found = CliRunner().invoke(app, ["model", "check", "minilm", option, value]).exception
    assert isinstance(found, InputError) and message in str(found)


def test_a_refusal_before_loading_is_json_too(tmp_path: Path) -> None:
    (save_qwen2(tmp_path) / "generation_config.json").write_text("[]")
    done = CliRunner().invoke(app, ["model", "check", str(tmp_path), "--json"])
    assert done.exit_code == 2
    found = json.loads(done.stdout)
    assert "generation_config.json is no JSON object" in found["refused"]
    assert found["model"] == str(tmp_path) and found["versions"]["transformers"]


def test_a_report_names_what_a_run_does_not_use(tmp_path: Path) -> None:
    usual = {"do_sample": False, "temperature": 1.0, "eos_token_id": 256, "pad_token_id": 256}
    settings = {"repetition_penalty": 1.5, "num_beams": 3, "suppress_tokens": [1]}
    # What `save_pretrained` writes, and what changes no text.
    usual |= {"_from_model_config": True, "output_attentions": False, "output_logits": True}
    usual |= {"use_cache": False, "cache_implementation": "hybrid", "renormalize_logits": False}
    file = save_qwen2(tmp_path) / "generation_config.json"
    file.write_text(json.dumps({**usual, **settings}))
    report = model_report(load_model(str(tmp_path)), VERDICT)
    assert report.unused == ("num_beams = 3", "repetition_penalty = 1.5", "suppress_tokens = [1]")
    assert (report.dtype, report.device) == ("float32", "cpu")


def test_a_report_says_whether_there_can_be_conversations(tmp_path: Path, model_path: str) -> None:
    assert model_report(load_model(model_path), VERDICT).chat_fault is None
    plain = model_report(load_model(str(save_qwen2(tmp_path))), VERDICT)
    assert plain.chat_fault is not None and "there is none" in plain.chat_fault
