"""Renders the GPU part of the report from its records, and the floor of the paper's edit."""

from __future__ import annotations

from tests.bench import floor
from tests.bench.floor import ALL_LINEAR, QV
from tests.bench.markdown import machine_lines, table
from tests.bench.records import Record
from tests.bench.shapes import QWEN_7B
from tests.bench.timing import number

MEASURED = "<!-- GPU_MEASURED -->"
"""Marks a part that came from a GPU."""

H200 = floor.Rates(790e12, 4.8e12)
"""Reached in bf16 products, and the memory's bandwidth: for the floor without a measurement."""

_MISSING = (
    "seconds per edit of training and of answering at 8, 16, 32 and 64 edits",
    "peak memory",
    "share of the floor",
    "ratios to the PEFT loop and to the published-style loop",
    "distance from the PEFT loop's adapters in bf16 at 7B",
)


def gpu_lines(data: Record) -> list[str]:
    """Seconds per edit; after a toy run, also what is missing."""
    toy = data["shape"] != QWEN_7B.name
    lines = ["" if toy else MEASURED, *machine_lines(data)]
    if toy:
        lines += [
            "",
            "**No GPU was at hand: these figures are missing**, and `make bench-gpu` on a machine "
            "with one fills them in:",
            "",
            *[f"- {what};" for what in _MISSING],
            "",
            f"What follows is the same command on the CPU with a model of shape {data['shape']}. "
            "It shows that the command works, and nothing about speed.",
        ]
    rates = floor.Rates(**data["rates"])
    head = ["targets", "edits", "training", "answering", "PEFT loop", "published-style"]
    head += ["answering one by one", "memory, GiB", "floor", "of the floor", "B differs", "loss"]
    rows = [_gpu_row(record, rates) for record in data["records"]]
    lines += [
        "",
        f"Seconds per edit of {data['rows']} rows and {data['tokens']} tokens per epoch on "
        f"average, epochs: {data['epochs']}; answering is 5 questions. The floor is training's. "
        "The last two columns compare the first edit's adapter with the PEFT loop's: B (relative "
        "L2) and final loss (relative).",
        "",
        *table(head, rows),
    ]
    return lines


def _gpu_row(record: Record, rates: floor.Rates) -> list[object]:
    arithmetic = record["flops"] / rates.flops
    weights, state = record["weight_bytes"] / rates.bytes, record["state_bytes"] / rates.bytes
    least = max(arithmetic, weights) + state
    names = ("batched", "answers", "peft", "published", "answers_one_by_one")
    memory = record["memory"]
    return [
        record["targets"],
        record["n"],
        *[number(record[name]) for name in names],
        "–" if memory is None else f"{memory:.0f}",
        number(least),
        f"{least / record['batched']:.0%}",
        f"{record['equal']['distance']:.1g}",
        f"{record['equal']['loss']:.1g}",
    ]


def floor_lines() -> list[str]:
    """The paper's edit, 8.4 rows of 53 tokens and 10 epochs, on the paper's model."""
    rows = []
    for name, targets in (("q and v", QV), ("all linear layers", ALL_LINEAR)):
        frozen, adapter = floor.matmul_weights(QWEN_7B), floor.lora_weights(QWEN_7B, targets, 32)
        base, lora = 4 * frozen * 4450, 6 * adapter * 4450
        traffic = floor.STATE_BYTES * adapter * 84
        rows.append(
            [
                name,
                f"{base / 1e12:.1f}",
                f"{lora / 1e12:.1f}",
                f"{(base + lora) / H200.flops:.3f}",
                f"{adapter / 1e6:.1f}",
                f"{traffic / 1e9:.0f}",
                f"{traffic / H200.bytes:.3f}",
            ]
        )
    head = ["targets", "frozen weights, TFLOP", "A and B, TFLOP", "s at 790 TFLOP/s"]
    head += ["numbers in A and B, M", "state traffic, GB", "s at 4.8 TB/s"]
    return ["", *table(head, rows)]
