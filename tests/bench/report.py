"""Writes docs/performance.md: tables from records, between markers that mark what is generated.

python -m tests.bench.report FILE.json … (renders records that were measured elsewhere)
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from tests.bench import floor
from tests.bench.edits import ROOT
from tests.bench.floor import ALL_LINEAR, QV
from tests.bench.records import Record, ratio, spread
from tests.bench.shapes import CPU_SHAPES, QWEN_7B, TOY, Shape
from tests.bench.timing import number

REPORT = ROOT / "docs" / "performance.md"
WANTED = {
    ("256x4", "peft"): 1.35,
    ("64x28", "peft"): 2.5,
    ("any", "published 512"): 10,
    ("any", "published 2048"): 60,
    ("any", "one by one"): 3.5,
}
"""The least ratios to the batched engine that the project asks of itself."""

H200 = floor.Rates(790e12, 4.8e12)
"""Reached in bf16 products, and the memory's bandwidth: for the floor without a measurement."""

_MISSING = (
    "seconds per edit of training and of answering at 8, 16, 32 and 64 edits",
    "peak memory",
    "share of the floor",
    "ratios to the PEFT loop and to the published-style loop",
    "distance from the PEFT loop's adapters in bf16 at 7B",
)


def write(path: Path, data: Record) -> None:
    """Replaces the part of the report that these records are about, and the floor's."""
    text = path.read_text("utf-8")
    old = _section(text, data["kind"])
    if data["kind"] == "gpu" and data["shape"] != QWEN_7B.name and "GPU_MEASURED" in old:
        return  # A toy run does not replace a real one.
    text = _replaced(text, data["kind"], _RENDER[data["kind"]](data))
    path.write_text(_replaced(text, "floor", _floor_table()), "utf-8")


def _cpu(data: Record) -> list[str]:
    lines = _machine(data)
    for shape in (*CPU_SHAPES, TOY):
        for targets in (QV, ALL_LINEAR):
            found = [
                record
                for record in data["records"]
                if record["section"] == "training"
                and (record["shape"], tuple(record["targets"])) == (shape.name, targets)
            ]
            if found:
                lines += _training_table(shape, targets, found, data)
    answered = [record for record in data["records"] if record["section"] == "answering"]
    if answered:
        lines += _answering_table(answered)
    lines += ["", "### vLLM against transformers", ""]
    lines += ["Not measured: run `make vllm-cpu` first."]
    return lines


def _training_table(
    shape: Shape, targets: tuple[str, ...], records: Sequence[Record], data: Record
) -> list[str]:
    rates = floor.Rates(**data["rates"])
    slower = [name for name in reversed(records[0]["seconds"]) if name != "batched"]
    weights = floor.matmul_weights(shape) / 1e6
    adapter = floor.lora_weights(shape, targets, 32) / 1e6
    lines = [
        "",
        f"### Training, {shape.name} (hidden × layers), {' and '.join(targets)}",
        "",
        f"{weights:.2f}M weights, {adapter:.2f}M per adapter of rank 32.",
        "",
    ]
    head = ["edits", "epochs", "steps", "clock", "batched, s"]
    rows = []
    for record in records:
        least = rates.seconds(floor.Work(record["flops"], record["bytes"]))
        for clock in ("cpu", "wall"):
            own = spread(record, "batched", clock)
            counts = (
                [record["n"], record["epochs"], record["steps"]] if clock == "cpu" else [""] * 3
            )
            ratios = [str(ratio(record, name, "batched", clock)) for name in slower]
            # Seconds of several threads add up to more than the machine's rates are about.
            comparable = clock == "wall" or data["threads"] == 1
            share = f"{least / own.median:.0%}" if comparable else ""
            rows.append([*counts, clock, str(own), *ratios, share])
    wanted = [_wanted(shape, name) for name in slower]
    rows.append(["at least", "", "", "", "", *wanted, ""])
    lines += _table([*head, *[f"{name} ÷ batched" for name in slower], "of the floor"], rows)
    worst = max(records, key=lambda record: record["equal"]["distance"])["equal"]
    lines += [
        "",
        f"The first edit's adapter against the PEFT loop's: B differs by {worst['distance']:.1g} "
        f"(relative L2, the worst row of the table), the final loss by {worst['loss']:.1g} "
        "(relative).",
    ]
    return lines


def _answering_table(records: Sequence[Record]) -> list[str]:
    rows = [
        [
            record["shape"],
            record["requests"],
            str(spread(record, "one by one", "cpu")),
            str(spread(record, "batched", "cpu")),
            str(ratio(record, "one by one", "batched", "cpu")),
            str(ratio(record, "one by one", "batched", "wall")),
        ]
        for record in records
    ]
    rows.append(["at least", "", "", "", number(WANTED["any", "one by one"]), ""])
    first = records[0]
    head = ["shape", "requests", "one by one, CPU s", "batched, CPU s", "ratio, CPU", "ratio, wall"]
    return [
        "",
        "### Answering",
        "",
        f"{first['requests']} requests of {first['tokens']} tokens each, to {first['n']} adapters "
        "(all-linear, rank 32), greedy.",
        "",
        *_table(head, rows),
    ]


def _gpu(data: Record) -> list[str]:
    toy = data["shape"] != QWEN_7B.name
    lines = ["" if toy else "<!-- GPU_MEASURED -->", *_machine(data)]
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
        *_table(head, rows),
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


def _floor_table() -> list[str]:
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
    return ["", *_table(head, rows)]


def _machine(data: Record) -> list[str]:
    rates = floor.Rates(**data["rates"])
    reached = (
        f"reached in this run: {number(rates.flops / 1e9)} GFLOP/s in a square product, "
        f"{number(rates.bytes / 1e9)} GB/s in a copy"
    )
    return ["", *[f"- {text}" for text in (*data["machine"].values(), reached)]]


def _wanted(shape: Shape, name: str) -> str:
    value = WANTED.get((shape.name, name), WANTED.get(("any", name)))
    return "" if value is None else number(value)


def _table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(str(cell) for cell in line) + " |" for line in lines]


def _section(text: str, name: str) -> str:
    found = re.search(rf"<!-- {name}:begin -->\n(.*?)<!-- {name}:end -->", text, re.DOTALL)
    if found is None:
        raise ValueError(f"the report has no part between <!-- {name}:begin --> and its end")
    return found[1]


def _replaced(text: str, name: str, lines: Sequence[str]) -> str:
    old = f"<!-- {name}:begin -->\n{_section(text, name)}<!-- {name}:end -->"
    body = "\n".join(lines).strip("\n")
    return text.replace(old, f"<!-- {name}:begin -->\n\n{body}\n\n<!-- {name}:end -->")


_RENDER: dict[str, Callable[[Record], list[str]]] = {"cpu": _cpu, "gpu": _gpu}

if __name__ == "__main__":
    for file in sys.argv[1:]:
        write(REPORT, json.loads(Path(file).read_text("utf-8")))
