"""`make bench-launches`: ATen calls of a micro-batch with a GPU's product, counted on a CPU.

    python -m tests.bench.launches [--layers 2,28] [--n 4,16,64] [--json FILE] [--report FILE]

On a GPU each call is Python, a launch, or both, and small ones bound the speed. Counted are calls
that reach the dispatcher, views included, in one forward and backward pass over the next rows of N
adapters and their optimizer steps, beyond those of the bare model on one row. The model is a tiny
Qwen2 of as many layers; its width changes no count.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from seal_core.models.loading import LoadedModel
from seal_core.models.lora_layers import LinearLayers
from seal_core.models.text.tokens import EncodedRow
from seal_core.training.slots.lora_slots import LoraSlots
from seal_core.training.slots.slot_step import SlotStep
from seal_core.training.ticks import Share, TickRunner
from tests.bench import edits, floor, report
from tests.bench.records import Record, Records, machine
from tests.bench.shapes import Shape, build

TARGETS = {"qv": floor.QV, "all-linear": floor.ALL_LINEAR}
RANK = 8


class Calls(TorchDispatchMode):
    """Counts the calls inside its block, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.counts[str(func)] += 1
        return func(*args, **(kwargs or {}))


def bare_calls(loaded: LoadedModel) -> Counter[str]:
    """Of the model's own forward and backward pass, over one row."""
    embedding = loaded.model.get_input_embeddings()
    inputs = embedding(torch.arange(12)[None]).detach().requires_grad_()
    with Calls() as calls:
        logits = loaded.model(inputs_embeds=inputs, use_cache=False).logits
        torch.nn.functional.cross_entropy(logits[0, :-1], torch.arange(1, 12)).backward()
    return calls.counts


def tick_calls(
    loaded: LoadedModel, targets: Sequence[str], n: int, own_rates: bool = False
) -> tuple[Counter[str], int]:
    """Of the second micro-batch of N adapters, with their steps; and how many modules they have.

    Args:
        own_rates: Each has its own, as at different places of their schedules.
    """
    layers = LinearLayers(loaded.model)
    modules = layers.resolve(targets)
    slots = LoraSlots(loaded.model, modules, RANK, n, torch.float32, together=True)
    try:
        for slot in range(n):
            slots.write(slot, layers.initial_weights(modules, RANK, slot))
        steps = [SlotStep(slot, 1e-3 / (1 + slot * own_rates), 1.0) for slot in range(n)]
        with TickRunner(loaded, slots, checkpoint=False) as ticks:
            slots.step(steps, ticks.run(_shares(n, 0)))
            with Calls() as calls:
                slots.step(steps, ticks.run(_shares(n, 1)))
    finally:
        slots.remove()
    return calls.counts, len(modules)


def _shares(n: int, step: int) -> list[Share]:
    """One row of each of N recorded edits."""
    shares = []
    for slot in range(n):
        lengths = edits.RECORDED[slot % len(edits.RECORDED)]
        ids = tuple((slot + place) % 256 for place in range(lengths[(slot + step) % len(lengths)]))
        row = EncodedRow(ids, 1)
        shares.append(Share(slot, [row], row.n_targets, 2.0, 0.0, torch.Generator()))
    return shares


def main(argv: Sequence[str] | None = None) -> Records:
    """Counts, and writes the JSON and the report that were asked for."""
    args = _arguments(argv)
    head = {"kind": "launches", "machine": machine(torch.device("cpu"), torch.get_num_threads())}
    records = Records(args.json, head)
    for n_layers in args.layers:
        shape = Shape(f"{n_layers} layers", 64, n_layers, heads=2, kv_heads=1, intermediate=128)
        loaded = build(shape)
        bare = sum(bare_calls(loaded).values())
        for name, targets in TARGETS.items():
            for n in args.n:
                calls, n_modules = tick_calls(loaded, targets, n)
                total = sum(calls.values())
                own, _ = tick_calls(loaded, targets, n, own_rates=True)
                record: Record = {
                    "section": "launches",
                    "layers": n_layers,
                    "targets": name,
                    "n": n,
                    "modules": n_modules,
                    "bare": bare,
                    "calls": total,
                    "per_module": (total - bare) / n_modules,
                    "for_own_rates": sum(own.values()) - total,
                }
                records.add(record)
                records.tell(
                    f"{n_layers} layers, {name}, {n} adapters: {total} calls, {bare} of the bare "
                    f"model, {record['per_module']:.1f} per module, "
                    f"{record['for_own_rates']} more if each has a rate of its own"
                )
                if args.names:
                    for call, count in (calls - bare_calls(loaded)).most_common(args.names):
                        records.tell(f"    {count:6d} {call}")
    if args.report is not None:
        report.write(args.report, records.data)
    return records


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    numbers = lambda text: [int(part) for part in text.split(",")]  # noqa: E731
    parser.add_argument("--layers", type=numbers, default=[2, 28])
    parser.add_argument("--n", type=numbers, default=[4, 16, 64])
    parser.add_argument("--names", type=int, default=0, help="show the most frequent calls")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--report", type=Path)
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
