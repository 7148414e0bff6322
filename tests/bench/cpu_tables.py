"""Renders the CPU part of the report from its records."""

from __future__ import annotations

from collections.abc import Sequence

from tests.bench import floor
from tests.bench.floor import ALL_LINEAR, QV
from tests.bench.markdown import machine_lines, table
from tests.bench.records import Record, ratio, spread
from tests.bench.shapes import CPU_SHAPES, TOY, Shape
from tests.bench.timing import number

_NOT_SERVED = ["Not measured: run `make vllm-cpu` first."]

WANTED = {
    ("256x4", "peft"): 1.35,
    ("64x28", "peft"): 2.5,
    ("any", "published 512"): 10,
    ("any", "published 2048"): 60,
    ("any", "one by one"): 3.5,
}
"""The least ratios to the batched engine that the project asks of itself."""


def cpu_lines(data: Record) -> list[str]:
    """Training by shape and targets, answering, and what is missing."""
    lines = machine_lines(data)
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
    served = [record for record in data["records"] if record["section"] == "serving"]
    lines += ["", "### vLLM against transformers", ""]
    return lines + (_serving_table(served) if served else _NOT_SERVED)


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
    lines += table([*head, *[f"{name} ÷ batched" for name in slower], "of the floor"], rows)
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
        *table(head, rows),
    ]


def _serving_table(records: Sequence[Record]) -> list[str]:
    rows = [
        [
            record["shape"],
            record["requests"],
            str(spread(record, "transformers", "wall")),
            str(spread(record, "vllm", "wall")),
            str(ratio(record, "transformers", "vllm", "wall")),
        ]
        for record in records
    ]
    first = records[0]
    return [
        f"{first['requests']} requests of {first['tokens']} tokens each, to {first['n']} adapters "
        "(all-linear, rank 32), greedy, all in one call, wall clock. Each engine may use all "
        f"{first['threads']} cores; the server's start is not counted, loading of adapters is.",
        "",
        *table(["shape", "requests", "transformers, s", "vLLM, s", "transformers ÷ vLLM"], rows),
    ]


def _wanted(shape: Shape, name: str) -> str:
    value = WANTED.get((shape.name, name), WANTED.get(("any", name)))
    return "" if value is None else number(value)
