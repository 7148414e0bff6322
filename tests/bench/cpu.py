"""`make bench`: the published-style loop, the PEFT loop and the batched trainer on one CPU.

python -m tests.bench.cpu [--quick] [--only training,answering] [--n 4,16,64] [--repeats 3]
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from seal_core.engines.base import LoraSettings
from seal_core.engines.batched_trainer import BatchedTrainer
from seal_core.engines.peft_trainer import PeftTrainer
from seal_core.engines.transformers_generator import TransformersGenerator
from tests.bench import edits, floor, report
from tests.bench.contenders import Training, all_at_once, compare, one_by_one
from tests.bench.published import Cost, run_published
from tests.bench.records import Records, machine, seconds
from tests.bench.shapes import CPU_SHAPES, TOY, Shape, build
from tests.bench.timing import Sample, interleaved

SECTIONS = ("training", "answering")
PADDINGS = (2048, 512)
EPOCHS = {4: 10, 16: 4, 64: 2}
"""Fewer epochs for more edits, to end within minutes; the paper's are 10. All contenders take
the same, and pay for set-up and saving per edit as in a full run."""
MAX_BATCH_TOKENS = 4096
"""What the pipeline gives a trainer by default (an eighth of `execution.max_batch_tokens`)."""


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
                _training(records, args, shape, floor.QV, args.n, Path(folder))
                _training(records, args, shape, floor.ALL_LINEAR, args.n[1:2], Path(folder))
            if "answering" in args.only:
                _answering(records, args, shape, Path(folder))
    if args.report is not None:
        report.write(args.report, records.data)
        records.tell(f"wrote {args.report}")
    return records


def _training(
    records: Records,
    args: argparse.Namespace,
    shape: Shape,
    targets: tuple[str, ...],
    numbers: Sequence[int],
    folder: Path,
) -> None:
    """Trains the same edits with every contender; the published-style loop is for q and v only."""
    records.tell(f"training, {shape.name}, {', '.join(targets)}")
    device = torch.device("cpu")
    peft = Training(PeftTrainer(build(shape)), folder / "peft", device)
    batched = Training(
        BatchedTrainer(build(shape), max_batch_tokens=MAX_BATCH_TOKENS), folder / "batched", device
    )
    jobs = {
        n: edits.jobs(
            edits.published_like(n), LoraSettings(targets=targets, epochs=_epochs(args, n))
        )
        for n in numbers
    }
    costs: dict[str, list[Cost]] = {}
    runs: dict[str, Callable[[], Sample]] = {}
    if targets == floor.QV:
        plain, first = build(shape), jobs[numbers[0]][0]
        for padding in (64,) if args.quick else PADDINGS:

            def published(padding: int = padding) -> Sample:
                cost = run_published(plain, first, folder, padding, args.published_steps)
                costs.setdefault(f"published {padding}", []).append(cost)
                return cost.step

            runs[f"published {padding}, one step"] = published
    distances: dict[int, dict[str, float]] = {}
    for n in numbers:

        def batch(n: int = n) -> Sample:
            sample = batched.run(jobs[n])
            distances[n] = compare(batched.results[0], peft.results[0])
            return sample

        runs[f"peft {n}"] = lambda n=n: peft.run(jobs[n])
        runs[f"batched {n}"] = batch
    for trainer in (peft, batched):
        trainer.warm_up(jobs[numbers[0]])
    samples = interleaved(runs, args.repeats, records.tell)
    for n in numbers:
        lengths, n_epochs = edits.published_like(n), _epochs(args, n)
        n_steps = n_epochs * sum(len(own) for own in lengths)
        work = [floor.training(shape, own, n_epochs, targets, 32) for own in lengths]
        contenders = {name: [c.of(n, n_steps) for c in own] for name, own in costs.items()}
        contenders |= {"peft": samples[f"peft {n}"], "batched": samples[f"batched {n}"]}
        records.add(
            {
                "section": "training",
                "shape": shape.name,
                "targets": list(targets),
                "n": n,
                "epochs": n_epochs,
                "steps": n_steps,
                "tokens": n_epochs * sum(map(sum, lengths)),
                "seconds": seconds(contenders),
                "flops": sum(own.flops for own in work),
                "bytes": sum(own.bytes for own in work),
                "equal": distances[n],
            }
        )
    peft.close()
    batched.close()


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


def _epochs(args: argparse.Namespace, n: int) -> int:
    return args.epochs or EPOCHS.get(n, 1)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.cpu", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a toy model, to try the command")
    parser.add_argument("--only", type=_names, default=SECTIONS, help="training,answering")
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
