"""`make bench-gpu`: seconds per edit on a 7B-shaped model, against both loops and the floor.

    python -m tests.bench.gpu [--toy] [--minutes 6] [--only qv,loops] [--n 64,128] [--json FILE]

The model has random weights, made on the device. For a GPU that is lent for minutes: the most
important rows come first, those for which no time is left are skipped by name, and every figure is
printed, and written to the JSON file, as soon as it is there. `--toy` runs the same code on a CPU
in seconds, and so does a machine without a GPU.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from tests.bench import STARTED, edits, floor, report
from tests.bench.gpu_rows import KINDS, GpuRows
from tests.bench.plan import Budget, run_rows
from tests.bench.records import Records, machine
from tests.bench.shapes import QWEN_7B, TOY, build

_ENDING_S = 10
"""Of the time, for removing the adapters and writing the report."""


def main(
    argv: Sequence[str] | None = None,
    clock: Callable[[], float] = time.perf_counter,
    started: float | None = None,
) -> Records:
    """Measures, and writes the JSON and the report that were asked for.

    Args:
        clock: Tells how much of the time is gone.
        started: When it began, by that clock; None for now.
    """
    args = _arguments(argv)
    budget = Budget(60 * args.minutes - _ENDING_S, clock, started)
    device = torch.device(args.device)
    if args.toy:
        torch.set_num_threads(1)
    shape = TOY if args.toy else QWEN_7B
    rates = floor.measure_rates(device, torch.bfloat16, 256 if args.toy else 8192)
    head = {
        "kind": "gpu",
        "shape": shape.name,
        "machine": machine(device, torch.get_num_threads()),
        "rates": asdict(rates),
        "epochs": args.epochs,
        "rows": args.rows,
        "tokens": args.tokens,
        "minutes": args.minutes,
    }
    records = Records(args.json, head)
    records.tell(f"{rates.flops / 1e12:.3g} TFLOP/s in bf16, {rates.bytes / 1e9:.3g} GB/s")
    loaded = build(shape, args.device, torch.bfloat16)
    records.tell(f"made a model of shape {shape.name}")
    with tempfile.TemporaryDirectory(prefix="seal-bench-", dir=args.folder) as folder:
        rows = GpuRows(args, shape, loaded, Path(folder), records, budget).rows()
        records.data["planned"] = [row.name for row in rows]
        run_rows(rows, budget, records)
    if args.report is not None:
        report.write(args.report, records.data)
        records.tell(f"wrote {args.report}")
    return records


def _minutes(text: str) -> float:
    """Raises ArgumentTypeError unless it is a length of time."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r}: set MINUTES to a number above 0")
    return value


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.gpu", description=__doc__)
    parser.add_argument("--toy", action="store_true", help="a toy model on the CPU")
    parser.add_argument("--minutes", type=_minutes, default=6.0, help="for the whole command (6)")
    parser.add_argument("--only", type=_names, default=KINDS, help=",".join(KINDS))
    parser.add_argument(
        "--n", type=_numbers, help="edits on q and v; the first also elsewhere (64,128)"
    )
    parser.add_argument("--epochs", type=int, help="(10)")
    parser.add_argument("--max-batch-tokens", type=int, help="(the trainer's own)")
    parser.add_argument("--max-adapters", type=int, help="(the trainer's own)")
    parser.add_argument("--published-steps", type=int, default=4, help="steps of that loop to run")
    parser.add_argument("--folder", type=Path, help="for adapters: up to 0.33 GB per edit")
    parser.add_argument("--json", type=Path, help="write every figure here at once")
    parser.add_argument("--report", type=Path, help="rewrite this report's GPU part")
    args = parser.parse_args(argv)
    if not torch.cuda.is_available() and not args.toy:
        print("there is no GPU here: a toy model on the CPU, to try the command", flush=True)
        args.toy = True
    args.device = "cpu" if args.toy else "cuda"
    args.n = args.n or ((2, 4) if args.toy else (64, 128))
    args.epochs = args.epochs or (1 if args.toy else 10)
    args.padding = 128 if args.toy else 2048
    args.rows, args.tokens = 8.4, 445
    args.answer_tokens = 4 if args.toy else edits.ANSWER_TOKENS
    return args


def _names(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if not set(names) <= set(KINDS):
        raise argparse.ArgumentTypeError(f"use some of {', '.join(KINDS)}")
    return names


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


if __name__ == "__main__":
    done = main(started=STARTED).data["records"]
    sys.exit(any("failed" in record for record in done))
