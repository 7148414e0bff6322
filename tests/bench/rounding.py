"""`make bench-rounding`: how far rounding moves an adapter, and whether the batch goes farther.

    python -m tests.bench.rounding [--model DIR] [--dtype bfloat16] [--edits 8] [--epochs 4]
        [--control 4] [--targets all-linear] [--device auto] [--json FILE] [--report FILE]

The same edits go through the PEFT loop, through the same loop again and rounded otherwise, and
through the batched trainer; B, losses and greedy answers are held against the first's. Then again
in float32, with fewer edits. The edits are short passages, sentence by sentence. Without a model it
is a random one of 7B's shape, on a GPU, with the edits of `bench-gpu`; it is asked nothing.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from seal_core.config import RowsSection
from seal_core.domains.problem_set import make_problem
from seal_core.domains.prompts import get_prompt
from seal_core.domains.rows import build_rows
from seal_core.domains.squad import read_squad
from seal_core.domains.world import make_world
from seal_core.engines import (
    GenerateRequest,
    LoraSettings,
    TrainedAdapter,
    Trainer,
    TrainJob,
)
from seal_core.generation.transformers_generator import TransformersGenerator
from seal_core.models.loading import LoadedModel, load_model
from seal_core.training.batched_trainer import BatchedTrainer
from seal_core.training.packing import can_pack
from seal_core.training.peft_trainer import PeftTrainer
from seal_core.types import Problem
from tests.bench import edits, report
from tests.bench.contenders import FilledPeft, Training, compare, losses_kept
from tests.bench.records import Record, Records, machine
from tests.bench.rounding_tables import AGAIN, ASKED, BATCHED, EAGER, FILLED, PEFT
from tests.bench.shapes import QWEN_7B, build

_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_TOGETHER, _APART = 32768, 256
"""Tokens of a batch of questions: all in one, and a few in each."""


@dataclass(slots=True)
class Outcome:
    """What one contender made of the edits.

    Attributes:
        losses: Of every step, by edit.
        answers: Tokens of every answer, by edit; None if nothing was asked.
    """

    results: list[TrainedAdapter]
    losses: list[list[float]]
    answers: list[list[list[int]]] | None = None


def trainers(loaded: LoadedModel) -> dict[str, Trainer]:
    """The contenders, each with modules of its own on the same frozen weights."""
    eager = loaded.twin()
    eager.model.set_attn_implementation("eager")
    return {
        PEFT: PeftTrainer(loaded.twin()),
        AGAIN: PeftTrainer(loaded.twin()),
        FILLED: FilledPeft(loaded.twin()),
        EAGER: PeftTrainer(eager),
        BATCHED: BatchedTrainer(loaded.twin(), pack=can_pack(loaded)),
    }


def problems(n: int) -> list[Problem]:
    """The shortest passages of the shared SQuAD data, or of the embedded world without it."""
    file = edits.published_file().parents[1] / "squad" / "train50.json"
    raw = read_squad(str(file)).problems if file.is_file() else make_world("train", n, 0)
    shortest = sorted(raw, key=lambda own: len(own.context))[:n]
    return [make_problem(own, "knowledge", "train") for own in shortest]


def passage_jobs(passages: Sequence[Problem], settings: LoraSettings) -> list[TrainJob]:
    """One job per passage; the self-edit is the passage's own sentences, a line each."""
    texts = ["\n".join(_SENTENCE.split(own.context)) for own in passages]
    return [
        TrainJob(f"edit-{i}", build_rows(own, text, RowsSection()), settings, seed=i)
        for i, (own, text) in enumerate(zip(passages, texts, strict=True))
    ]


def answers(
    loaded: LoadedModel, paths: Sequence[str], passages: Sequence[Problem], max_batch_tokens: int
) -> list[list[list[int]]]:
    """Tokens of each adapter's greedy answers about its passage, which is not in view."""
    asked = [(i, question.prompt) for i, own in enumerate(passages) for question in own.questions]
    requests = []
    for place, question in asked:
        prompt = get_prompt("answer@1").render(question=question)
        requests.append(
            GenerateRequest(
                question, prompt.text, (paths[place],), edits.ANSWER_TOKENS, stop=prompt.stop
            )
        )
    found: list[list[list[int]]] = [[] for _ in passages]
    generated = TransformersGenerator(loaded.twin(), max_batch_tokens).generate(requests)
    for (place, _), own in zip(asked, generated, strict=True):
        if own.text is None:
            raise RuntimeError(f"{own.request_id}: {own.error}")
        found[place].append(loaded.codec.literal.encode_text(own.text))
    return found


def against(ours: Outcome, oracle: Outcome) -> Record:
    """How far one contender is from the other, by edit, as far as ours has trained them."""
    steps = [
        abs(one - other)
        for own, right in zip(ours.losses, oracle.losses, strict=False)
        for one, other in zip(own, right, strict=True)
    ]
    pairs = zip(ours.results, oracle.results, strict=False)
    record: Record = {
        "distance": [compare(one, other)["distance"] for one, other in pairs],
        "loss_mean": sum(steps) / len(steps),
        "loss_most": max(steps),
    }
    if ours.answers is not None and oracle.answers is not None:
        both = list(zip(ours.answers, oracle.answers, strict=False))
        record["answers"] = [_share_equal(*own, None) for own in both]
        record["first_tokens"] = [_share_equal(*own, 1) for own in both]
    return record


def _share_equal(ours: list[list[int]], theirs: list[list[int]], n: int | None) -> float:
    """Of answers, by their first `n` tokens; None for all."""
    return sum(one[:n] == other[:n] for one, other in zip(ours, theirs, strict=True)) / len(ours)


def _prepared(
    args: argparse.Namespace, dtype: str, n: int
) -> tuple[LoadedModel, list[TrainJob], list[Problem] | None]:
    """The model, its jobs, and the passages to ask about; none of random weights."""
    settings = LoraSettings(targets=args.targets, epochs=args.epochs)
    if args.model is None:
        loaded = build(QWEN_7B, args.device, getattr(torch, dtype))
        return loaded, edits.jobs(edits.fixed(n), settings), None
    passages = problems(n)
    loaded = load_model(args.model, args.device, dtype)
    return loaded, passage_jobs(passages, settings), passages


def _measure(records: Records, args: argparse.Namespace, dtype: str, n: int) -> Record:
    """Everything in one precision, with so many edits."""
    loaded, jobs, passages = _prepared(args, dtype, n)
    outcomes: dict[str, Outcome] = {}
    with tempfile.TemporaryDirectory(prefix="seal-bench-") as folder:
        for place, (name, trainer) in enumerate(trainers(loaded).items()):
            # A CPU computes the same bits again, which two edits show.
            n_own = min(n, 2) if name == AGAIN and loaded.device.type == "cpu" else n
            training = Training(trainer, Path(folder) / str(place), loaded.device)
            with losses_kept() as kept:
                sample = training.run(jobs[:n_own])
            own = Outcome(training.results, [kept[job.adapter_id] for job in jobs[:n_own]])
            outcomes[name] = own
            records.tell(f"{dtype}, {name}: trained {n_own} edits in {sample.wall:.0f} s")
            if passages is None or n_own < n:  # Answers of fewer would come in other batches.
                continue
            own.answers = answers(loaded, training.paths(), passages, _TOGETHER)
            if name == PEFT:
                apart = answers(loaded, training.paths(), passages, _APART)
                outcomes[ASKED] = replace(own, answers=apart)
        others = [name for name in outcomes if name != PEFT]
        pairs = {name: against(outcomes[name], outcomes[PEFT]) for name in others}
    losses = {name: own.losses for name, own in outcomes.items() if name != ASKED}
    return {"section": dtype, "name": loaded.name, "n": n, "pairs": pairs, "losses": losses}


def main(argv: Sequence[str] | None = None) -> Records:
    """Measures, and writes the JSON and the report that were asked for."""
    args = _arguments(argv)
    head = {
        "kind": "rounding",
        "machine": machine(torch.device(args.device), torch.get_num_threads()),
        "epochs": args.epochs,
        "targets": args.targets,
    }
    records = Records(args.json, head)
    runs = {args.dtype: args.edits}
    runs.setdefault("float32", args.control)
    for dtype, n in runs.items():
        if n:
            records.add(_measure(records, args, dtype, n))
    if args.report is not None:
        report.write(args.report, records.data)
        records.tell(f"wrote {args.report}")
    return records


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.rounding", description=__doc__)
    parser.add_argument("--model", help="folder of a model; none for random weights, on a GPU")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--edits", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--control", type=int, default=4, help="edits in float32; 0 for none")
    parser.add_argument("--targets", type=lambda text: tuple(text.split(",")), default="all-linear")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path, help="write every figure here")
    parser.add_argument("--report", type=Path, help="rewrite this report's part on rounding")
    args = parser.parse_args(argv)
    if args.model is None and args.device == "cpu":
        parser.error("a model of 7B's shape wants a GPU: name a smaller one with --model")
    return args


if __name__ == "__main__":
    main()
