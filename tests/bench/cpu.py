"""`make bench`: training and answering on the CPU, against what they are to surpass.

python -m tests.bench.cpu [--quick] [--only training,answering,vllm] [--n 4,16,64] [--repeats 3]
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from seal_core.engines import LoraSettings
from seal_core.generation.transformers_generator import TransformersGenerator
from seal_core.training.batched_trainer import BatchedTrainer
from tests.bench import edits, floor, report
from tests.bench.contenders import Training, all_at_once, one_by_one
from tests.bench.records import Records, machine, seconds
from tests.bench.serving import serving
from tests.bench.shapes import CPU_SHAPES, TOY, Shape, build
from tests.bench.timing import interleaved
from tests.bench.training import TrainingBench

SECTIONS = ("training", "answering", "vllm")


def main(argv: Sequence[str] | None = None) -> Records:
    """Measures, and writes the JSON and the report that were asked for."""
    args = _arguments(argv)
    torch.set_num_threads(args.threads)
    device = torch.device("cpu")
    rates = floor.measure_rates(device, torch.float32, 256 if args.quick else 1024)
    head = {
        "kind": "cpu",
        "machine": machine(device, args.threads),
        "threads": args.threads,
        "rates": asdict(rates),
    }
    records = Records(args.json, head)
    shapes = (TOY,) if args.quick else CPU_SHAPES
    with tempfile.TemporaryDirectory(prefix="seal-bench-") as folder:
        for shape in shapes:
            if "training" in args.only:
                TrainingBench(args, shape, floor.QV, Path(folder)).run(records, args.n)
                # One number of edits is enough to see the difference.
                some = args.n[1:2] or args.n
                TrainingBench(args, shape, floor.ALL_LINEAR, Path(folder)).run(records, some)
            if "answering" in args.only:
                _answering(records, args, shape, Path(folder))
            if "vllm" in args.only and not args.quick:
                serving(records, args, shape, Path(folder))
    if args.report is not None:
        report.write(args.report, records.data)
        records.tell(f"wrote {args.report}")
    return records


def _answering(records: Records, args: argparse.Namespace, shape: Shape, folder: Path) -> None:
    """Answers the questions of trained adapters one by one, and in one call."""
    records.tell(f"answering, {shape.name}")
    device = torch.device("cpu")
    loaded = build(shape)
    settings = LoraSettings(epochs=1)
    trainer = Training(BatchedTrainer(loaded), folder / "answered", device)
    trainer.run(edits.jobs(edits.published_like(args.answered), settings))
    generator = TransformersGenerator(loaded)
    n_tokens = 4 if args.quick else edits.ANSWER_TOKENS
    requests = edits.requests(trainer.paths(), n_tokens)
    all_at_once(generator, requests[:2], device)()
    samples = interleaved(
        {
            "one by one": one_by_one(generator, requests, device),
            "batched": all_at_once(generator, requests, device),
        },
        args.repeats,
        records.tell,
    )
    records.add(
        {
            "section": "answering",
            "shape": shape.name,
            "n": args.answered,
            "requests": len(requests),
            "tokens": n_tokens,
            "seconds": seconds(samples),
        }
    )
    trainer.close()


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.cpu", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a toy model, to try the command")
    parser.add_argument("--only", type=_names, default=SECTIONS, help="training,answering,vllm")
    parser.add_argument("--n", type=_numbers, help="numbers of edits (4,16,64)")
    parser.add_argument("--epochs", type=int, help="for any number of edits; paper: 10")
    parser.add_argument("--repeats", type=int, help="repetitions of the interleaved run (3)")
    parser.add_argument("--published-steps", type=int, default=3, help="steps of that loop to run")
    parser.add_argument("--threads", type=int, default=1, help="torch threads (1)")
    parser.add_argument("--json", type=Path, help="write all samples here")
    parser.add_argument("--report", type=Path, help="rewrite this report's CPU part")
    args = parser.parse_args(argv)
    args.n = args.n or ((2, 3) if args.quick else (4, 16, 64))
    args.repeats = args.repeats or (1 if args.quick else 3)
    args.answered = 2 if args.quick else 4
    return args


def _names(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if not set(names) <= set(SECTIONS):
        raise argparse.ArgumentTypeError(f"use some of {', '.join(SECTIONS)}")
    return names


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


if __name__ == "__main__":
    main()
