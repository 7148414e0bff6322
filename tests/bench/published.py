"""Trains as the published code does, for comparison only: one adapter at a time, padded.

What it does (general-knowledge/src/inner/TTT_server.py of the reference implementation): every
row is padded to `max_length` (2048 unless told otherwise), pads are masked from attention but
carry loss; each self-edit wraps the model with PEFT anew, at PEFT's own targets for Qwen2
(q_proj, v_proj), and runs a transformers `Trainer` over it, batch size 1, bf16 autocast on a GPU.

All steps of such a loop cost the same, whatever their text, so a few are run and the rest
reckoned. Its server, its logging and the transfer of adapters are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peft
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from seal_core.engines import TrainJob
from seal_core.models.loading import LoadedModel
from seal_core.models.text.tokens import encode_row
from tests.bench.floor import ALL_LINEAR, synchronize
from tests.bench.timing import Sample, now


@dataclass(frozen=True, slots=True)
class Cost:
    """What one optimizer step takes, and what each edit takes beside its steps."""

    step: Sample
    edit: Sample

    def of(self, n_edits: int, n_steps: int) -> Sample:
        """So many edits with so many steps in all."""
        return self.step * n_steps + self.edit * n_edits


class _Clock(TrainerCallback):
    """Reads the clocks after every step."""

    def __init__(self, loaded: LoadedModel) -> None:
        self._device = loaded.device
        self.times: list[Sample] = []

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        synchronize(self._device)
        self.times.append(now())


def run_published(
    loaded: LoadedModel, job: TrainJob, folder: Path, max_length: int, n_steps: int
) -> Cost:
    """Takes a job's first steps; the cost of a step leaves out the first, which warms up.

    Args:
        n_steps: At least 2.
    """
    clock = _Clock(loaded)
    start = now()
    settings = job.settings
    config = peft.LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,  # type: ignore[arg-type]
        lora_dropout=settings.dropout,
        target_modules=_peft_targets(settings.targets),
        task_type="CAUSAL_LM",
    )
    model = peft.get_peft_model(loaded.model, config)
    on_gpu = loaded.device.type == "cuda"
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(folder / "trainer"),
            per_device_train_batch_size=settings.batch_size,
            num_train_epochs=settings.epochs,
            max_steps=n_steps,
            learning_rate=settings.lr,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            remove_unused_columns=False,
            bf16=on_gpu,
            use_cpu=not on_gpu,
            dataloader_pin_memory=on_gpu,
            disable_tqdm=True,
            seed=job.seed,
        ),
        train_dataset=_rows(loaded, job, max_length),  # type: ignore[arg-type]
        callbacks=[clock],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    model.save_pretrained(str(folder / "published"))
    model.unload()
    synchronize(loaded.device)
    total = now() - start
    step = (clock.times[-1] - clock.times[0]) * (1 / (len(clock.times) - 1))
    rest = total - step * len(clock.times)
    return Cost(step, Sample(max(0.0, rest.wall), max(0.0, rest.cpu)))


def _peft_targets(targets: Sequence[str]) -> list[str] | str:
    return targets[0] if tuple(targets) == ALL_LINEAR else list(targets)


def _rows(loaded: LoadedModel, job: TrainJob, max_length: int) -> list[dict[str, list[int]]]:
    rows = []
    for row in job.rows:
        ids = list(encode_row(loaded.codec, row, loaded.eos_id, max_length).ids)
        n_pads = max_length - len(ids)
        padded = ids + [loaded.pad_id] * n_pads
        mask = [1] * len(ids) + [0] * n_pads
        rows.append({"input_ids": padded, "attention_mask": mask, "labels": padded})
    return rows
