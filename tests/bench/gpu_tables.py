"""Renders the GPU part of the report from its records, and the floor of the paper's edit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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

AT_MOST = {
    "qv 64": "0.45 together",
    "all-linear 64": "0.7 together",
    "small 50": "0.06 training",
}
"""Seconds per edit that the project allows itself."""

AT_LEAST = {"peft": 14.0, "published": 30.0, "busy": 0.7}
"""The least ratios to batched training, and the least share of time in which the GPU works."""

_MISSING = (
    "seconds per edit of training and of answering: 64 and 128 edits on q and v, 64 on all linear "
    "layers, and of training 50 edits of 24 steps on a model of SmolLM2-135M's shape",
    "peak memory and share of the floor",
    "ratios to the PEFT loop and to the published-style loop",
    "distance from the PEFT loop's adapters in bf16 at 7B",
    "share of the time in which the GPU works",
)


def gpu_lines(data: Record) -> list[str]:
    """Seconds per edit, ratios to the loops, and what is missing; also of a run cut short."""
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
    by_name = {record["row"]: record for record in data["records"]}
    trained = [record for record in by_name.values() if "weight_bytes" in record]
    busy = _one(by_name, "busy")
    lines += ["", _training_text(data, busy), "", *_training_table(trained, busy, data)]
    loops = _one(by_name, "loops")
    on_qv = [record for record in trained if record["row"].startswith("qv ")]
    if loops:
        lines += ["", _loops_text(data, loops), "", *_loops_table(on_qv, loops)]
    absent = [_absent(name, by_name.get(name)) for name in data.get("planned", ())]
    return [*lines, "", *[f"- Not measured: {line}." for line in absent if line]]


def _one(by_name: Mapping[str, Record], kind: str) -> Record:
    """The record of a kind that has one row; empty when there is none."""
    return next((own for name, own in by_name.items() if name.split()[0] == kind), {})


def _absent(name: str, record: Record | None) -> str | None:
    """Why a planned row is not there, or not whole."""
    if record is None:
        return f"`{name}`, the run ended before it"
    if "skipped" in record:
        return f"`{name}`, no time was left ({record['skipped']})"
    if "failed" in record:
        return f"`{name}`, or not all of it: {record['failed']}"
    return None if "took" in record else f"`{name}`, or not all of it: the run ended within it"


def _training_text(data: Record, busy: Record) -> str:
    text = (
        f"Seconds per edit of {data['rows']} rows and {data['tokens']} tokens per epoch on "
        f"average, rank 32, epochs: {data['epochs']}; `small` is all linear layers of a small "
        "model and takes fewer steps. Answering is 5 questions per edit, all in one call. A pass "
        "is one micro-batch, forward and backward. The floor is training's."
    )
    if busy.get("busy") is not None:
        text += (
            " Busy is the share of wall time in which at least one kernel runs, in a run of "
            f"{busy['busy_epochs']} epochs of its own, set-up and saving included; the profiler "
            "slows it, so it is a lower bound."
        )
    return text


def _training_table(trained: Sequence[Record], busy: Record, data: Record) -> list[str]:
    head = ["row", "model", "steps", "training", "answering", "together", "at most"]
    head += ["tokens per pass", "GiB, training", "GiB, answering", "floor", "of the floor", "busy"]
    rates = floor.Rates(**data["rates"])
    rows = [_training_row(record, busy, rates) for record in trained]
    least_busy = f"{AT_LEAST['busy']:.0%}"
    return table(head, [*rows, ["at least", *[""] * (len(head) - 2), least_busy]])


def _training_row(record: Record, busy: Record, rates: floor.Rates) -> list[str]:
    arithmetic = record["flops"] / rates.flops
    weights, state = record["weight_bytes"] / rates.bytes, record["state_bytes"] / rates.bytes
    least = max(arithmetic, weights) + state
    training, answers = record.get("batched"), record.get("answers")
    return [
        record["row"],
        record["shape"],
        f"{record['steps']:.1f}",
        _cell(training),
        _cell(answers),
        _cell(training + answers if training and answers else None),
        AT_MOST.get(record["row"], ""),
        _cell(record.get("tokens_per_pass"), ".0f"),
        _cell(record.get("memory"), ".0f"),
        _cell(record.get("answers_memory"), ".0f"),
        number(least),
        _cell(least / training if training else None, ".0%"),
        _cell(busy.get("busy") if record["row"] == busy.get("of") else None, ".0%"),
    ]


def _loops_text(data: Record, loops: Record) -> str:
    text = (
        "Against the loops, one edit after another on q and v: seconds per edit, and what they "
        "take over what the batch of a row takes. The published-style loop is reckoned from a few "
        "steps, the PEFT loop's edit is the first one. The last two columns compare its adapter "
        "with the batch's: B (relative L2) and final loss (relative)."
    )
    if loops.get("peft_epochs", data["epochs"]) < data["epochs"]:
        text += (
            f" The PEFT loop's seconds are reckoned from {loops['peft_epochs']} of "
            f"{data['epochs']} epochs, since no time was left for a whole edit."
        )
    return text


def _loops_table(on_qv: Sequence[Record], loops: Record) -> list[str]:
    head = ["row", "PEFT loop", "published-style", "answering one by one", "PEFT ÷ batched"]
    head += ["published ÷ batched", "one by one ÷ answering", "B differs", "loss differs"]
    names = (("peft", "batched"), ("published", "batched"), ("answers_one_by_one", "answers"))
    alone = [_cell(loops.get(slow)) for slow, _ in names]
    equal = loops.get("equal", {})
    differs = [_cell(equal.get(name), ".1g") for name in ("distance", "loss")]
    rows = [
        [record["row"], *alone, *[_ratio(loops, record, *pair) for pair in names], *differs]
        for record in on_qv
    ]
    wanted = [number(AT_LEAST[name]) for name in ("peft", "published")]
    return table(head, [*rows, ["at least", "", "", "", *wanted, "", "", ""]])


def _ratio(loops: Record, record: Record, slow: str, fast: str) -> str:
    if slow not in loops or fast not in record:
        return "–"
    return number(loops[slow] / record[fast])


def _cell(value: float | None, form: str = "") -> str:
    if value is None:
        return "–"
    return format(value, form) if form else number(value)


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
