"""What a contender's distance says is measured at toy size, by the same code."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from tests.bench import report, rounding
from tests.bench.rounding_tables import AGAIN, ASKED, BATCHED, EAGER, FILLED, PEFT
from tests.bench.shapes import TOY
from tests.models import save_qwen2

torch.set_num_threads(1)


@pytest.mark.long
def test_rounding_is_far_in_bfloat16_and_near_in_float32(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("SEAL_TEST_DATA", str(tmp_path))  # The embedded world takes its place.
    page = Path(shutil.copy(report.REPORT, tmp_path))
    arguments = ["--model", str(save_qwen2(tmp_path / "toy")), "--edits", "3", "--epochs", "2"]
    arguments += ["--control", "2", "--device", "cpu", "--report", str(page)]
    rounding.main([*arguments, "--json", str(tmp_path / "found.json")])
    records = json.loads((tmp_path / "found.json").read_text())["records"]
    assert [(own["section"], own["n"]) for own in records] == [("bfloat16", 3), ("float32", 2)]
    for record in records:
        assert set(record["losses"]) == {PEFT, AGAIN, FILLED, EAGER, BATCHED}
        again = record["pairs"][AGAIN]
        assert again["distance"] == [0.0, 0.0] and again["loss_most"] == 0.0
        asked = record["pairs"][ASKED]
        assert set(asked["distance"]) == {0.0} and len(asked["answers"]) == record["n"]
        assert len(record["losses"][BATCHED][0]) == 2 * 8  # Steps: seven sentences, the passage.
    for name in (FILLED, EAGER, BATCHED):
        coarse, fine = (record["pairs"][name] for record in records)
        assert max(fine["distance"]) < 1e-3 < min(coarse["distance"])
        assert fine["loss_most"] < 1e-4
    assert all(0 <= share <= 1 for share in coarse["answers"] + coarse["first_tokens"])
    assert fine["answers"] == fine["first_tokens"] == [1.0, 1.0]
    text = page.read_text()
    assert "### toy in bfloat16" in text and "### toy in float32" in text


def test_a_random_model_is_asked_nothing(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(rounding, "QWEN_7B", TOY)
    page = Path(shutil.copy(report.REPORT, tmp_path))
    arguments = ["--device", "cpu:0", "--edits", "1", "--epochs", "1", "--control", "0"]
    (record,) = rounding.main([*arguments, "--report", str(page)]).data["records"]
    assert ASKED not in record["pairs"] and "answers" not in record["pairs"][BATCHED]
    assert "| batched | 1 | 0.0" in page.read_text()
    with pytest.raises(SystemExit):  # One of 7B's shape would take hours.
        rounding.main(["--device", "cpu"])
