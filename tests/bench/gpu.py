"""`make bench-gpu`: seconds per edit on a 7B-shaped model, against both loops and the floor.

    python -m tests.bench.gpu [--toy] [--only qv,all-linear] [--n 8,16,32,64] [--json FILE]

The model has random weights, made on the device. Every figure is printed, and written to the JSON
file, as soon as it is there. `--toy` runs the same code on a CPU in seconds, and so does a machine
without a GPU.
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
from seal_core.models.loading import LoadedModel
from seal_core.training.batched_trainer import BatchedTrainer
from seal_core.training.peft_trainer import PeftTrainer
from tests.bench import edits, floor, report
from tests.bench.contenders import Training, all_at_once, answer, compare, one_by_one
from tests.bench.published import run_published
from tests.bench.records import Record, Records, machine
from tests.bench.shapes import QWEN_7B, TOY, Shape, build, sharing

TARGETS = {"qv": floor.QV, "all-linear": floor.ALL_LINEAR}
ITEM_BYTES = 2
"""Of a bfloat16 weight."""


def main(argv: Sequence[str] | None = None) -> Records:
    """Measures, and writes the JSON and the report that were asked for."""
    args = _arguments(argv)
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
        "rows": 8.4,
        "tokens": args.tokens,
    }
    records = Records(args.json, head)
    records.tell(f"{rates.flops / 1e12:.3g} TFLOP/s in bf16, {rates.bytes / 1e9:.3g} GB/s")
    loaded = build(shape, args.device, torch.bfloat16)
    records.tell(f"made a model of shape {shape.name}")
    with tempfile.TemporaryDirectory(prefix="seal-bench-", dir=args.folder) as folder:
        for name in args.only:
            _targets(records, args, shape, loaded, name, Path(folder))
    if args.report is not None:
        report.write(args.report, records.data)
        records.tell(f"wrote {args.report}")
    return records


def _targets(
    records: Records,
    args: argparse.Namespace,
    shape: Shape,
    loaded: LoadedModel,
    name: str,
    folder: Path,
) -> None:
    """For each number of edits: the batch, then one edit of the PEFT loop, then the padded one."""
    targets = TARGETS[name]
    settings = LoraSettings(targets=targets, epochs=args.epochs)
    device = loaded.device
    peft = Training(PeftTrainer(sharing(loaded)), folder / "peft", device)
    trainer = BatchedTrainer(
        sharing(loaded), max_batch_tokens=args.max_batch_tokens, max_adapters=args.max_adapters
    )
    batched = Training(trainer, folder / "batched", device)
    generator = TransformersGenerator(sharing(loaded))
    plain = sharing(loaded)
    for contender in (peft, batched):
        contender.warm_up(edits.jobs(edits.fixed(2, args.tokens), settings))
    answer(generator, edits.requests(batched.paths(), 2, 1))
    first = edits.jobs(edits.fixed(1, args.tokens), settings)[0]
    run_published(plain, first, folder, args.padding, 2)
    for n in args.n:
        lengths = edits.fixed(n, args.tokens)
        jobs = edits.jobs(lengths, settings)
        record: Record = {"section": "gpu", "targets": name, "n": n}
        _reset_peak(device)
        record["batched"] = batched.run(jobs).wall / n
        record["memory"] = _peak(device)
        records.tell(f"{name}, {n} edits: {record['batched']:.3f} s per edit of training")
        requests = edits.requests(batched.paths(), args.answer_tokens)
        _reset_peak(device)
        record["answers"] = all_at_once(generator, requests, device)().wall / n
        record["answers_memory"] = _peak(device)
        records.tell(f"{name}, {n} edits: {record['answers']:.3f} s per edit of answering")
        record["peft"] = peft.run(jobs[:1]).wall
        record["equal"] = compare(batched.results[0], peft.results[0])
        alone = edits.requests(peft.paths(), args.answer_tokens)
        record["answers_one_by_one"] = one_by_one(generator, alone, device)().wall
        cost = run_published(plain, jobs[0], folder, args.padding, args.published_steps)
        steps_of_all = sum(len(own) for own in lengths) * args.epochs
        record["published"] = cost.of(n, steps_of_all).wall / n
        record |= _floor(shape, args, lengths, targets)
        records.add(record)
        records.tell(
            f"{name}, {n} edits: PEFT loop {record['peft']:.2f} s per edit, published-style "
            f"{record['published']:.2f} s, B differs by {record['equal']['distance']:.2g}"
        )
    for contender in (peft, batched):
        contender.close()
    generator.close()


def _floor(
    shape: Shape, args: argparse.Namespace, lengths: Sequence[edits.Lengths], targets: Sequence[str]
) -> Record:
    """Least work per edit: training's own, frozen weights read per full batch, answers."""
    n = len(lengths)
    works = [floor.training(shape, own, args.epochs, targets, 32) for own in lengths]
    n_tokens = args.tokens * args.epochs * n
    reads = floor.passes(shape, n_tokens / args.max_batch_tokens, ITEM_BYTES)
    prompt = sum(edits.RECORDED_PROMPTS) / len(edits.RECORDED_PROMPTS)
    answers = floor.answering(shape, int(edits.QUESTIONS * (prompt + args.answer_tokens)))
    decoding = floor.passes(shape, args.answer_tokens, ITEM_BYTES, reads=1)
    return {
        "flops": sum(work.flops for work in works) / n,
        "state_bytes": sum(work.bytes for work in works) / n,
        "weight_bytes": reads.bytes / n,
        "answer_flops": answers.flops,
        "answer_bytes": decoding.bytes / n,
    }


def _reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def _peak(device: torch.device) -> float | None:
    """GiB at the highest since the reset, the model included; None on a CPU."""
    if device.type != "cuda":
        return None
    return torch.cuda.max_memory_allocated(device) / 2**30


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.gpu", description=__doc__)
    parser.add_argument("--toy", action="store_true", help="a toy model on the CPU")
    parser.add_argument("--only", type=_names, default=tuple(TARGETS), help="qv,all-linear")
    parser.add_argument("--n", type=_numbers, help="numbers of edits (8,16,32,64)")
    parser.add_argument("--epochs", type=int, help="(10)")
    parser.add_argument("--max-batch-tokens", type=int, default=4096)
    parser.add_argument("--max-adapters", type=int, default=64)
    parser.add_argument("--published-steps", type=int, default=4, help="steps of that loop to run")
    parser.add_argument("--folder", type=Path, help="for adapters: up to 0.33 GB per edit")
    parser.add_argument("--json", type=Path, help="write every figure here at once")
    parser.add_argument("--report", type=Path, help="rewrite this report's GPU part")
    args = parser.parse_args(argv)
    if not torch.cuda.is_available() and not args.toy:
        print("there is no GPU here: a toy model on the CPU, to try the command", flush=True)
        args.toy = True
    args.device = "cpu" if args.toy else "cuda"
    args.n = args.n or ((2, 4) if args.toy else (8, 16, 32, 64))
    args.epochs = args.epochs or (1 if args.toy else 10)
    args.padding = 128 if args.toy else 2048
    args.tokens = 445
    args.answer_tokens = 4 if args.toy else edits.ANSWER_TOKENS
    return args


def _names(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if not set(names) <= set(TARGETS):
        raise argparse.ArgumentTypeError(f"use some of {', '.join(TARGETS)}")
    return names


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


if __name__ == "__main__":
    main()
