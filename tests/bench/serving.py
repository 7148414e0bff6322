"""Times a vLLM server against the embedded engine: the same questions to the same adapters."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import torch

from seal_core.engines import LoraSettings
from seal_core.errors import InputError
from seal_core.generation.transformers_generator import TransformersGenerator
from seal_core.generation.vllm.generator import VllmGenerator
from seal_core.generation.vllm.options import VllmOptions, find_vllm
from seal_core.models.loading import load_model
from seal_core.training.batched_trainer import BatchedTrainer
from tests.bench import edits
from tests.bench.contenders import Training, all_at_once
from tests.bench.records import Records, seconds
from tests.bench.shapes import Shape, build
from tests.bench.timing import interleaved

ADAPTERS = 16
RANK = 32


def serving(records: Records, args: argparse.Namespace, shape: Shape, folder: Path) -> None:
    """Adds one record, or says why there is none; both engines may use all cores."""
    try:
        python = find_vllm().python
    except InputError as error:
        records.tell(f"vLLM is left out: {error}")
        return
    records.tell(f"vLLM against transformers, {shape.name}")
    torch.set_num_threads(os.cpu_count() or 1)
    device = torch.device("cpu")
    model = build(shape)
    model.model.save_pretrained(folder / shape.name)
    model.tokenizer.save_pretrained(folder / shape.name)
    trainer = Training(BatchedTrainer(model), folder / "served", device)
    settings = LoraSettings(rank=RANK, epochs=1)
    trainer.run(edits.jobs(edits.published_like(ADAPTERS), settings))
    requests = edits.requests(trainer.paths(), edits.ANSWER_TOKENS)
    path = str(folder / shape.name)
    options = VllmOptions(
        path, python=python, max_rank=RANK, adapter_slots=ADAPTERS, max_model_len=1024
    )
    ours = TransformersGenerator(load_model(path))
    served = VllmGenerator(options, folder / "logs")
    try:
        for generator in (ours, served):
            all_at_once(generator, requests, device)()
        samples = interleaved(
            {
                "transformers": all_at_once(ours, requests, device),
                "vllm": all_at_once(served, requests, device),
            },
            args.repeats,
            records.tell,
        )
    finally:
        served.close()
        torch.set_num_threads(args.threads)
    records.add(
        {
            "section": "serving",
            "shape": shape.name,
            "n": ADAPTERS,
            "requests": len(requests),
            "tokens": edits.ANSWER_TOKENS,
            "threads": os.cpu_count() or 1,
            "seconds": seconds(samples),
        }
    )
    trainer.close()
