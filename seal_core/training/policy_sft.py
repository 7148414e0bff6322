"""The outer update: fine-tunes the policy on the self-edits that were kept, with TRL.

ReST-EM's M-step (Singh et al. 2023, arXiv 2312.06585): plain supervised fine-tuning on
prompt → kept self-edit, the loss on the self-edit alone.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch.nn import functional
from transformers import PrinterCallback, TrainerCallback
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from seal_core.engines import LoraSettings, Progress, TrainedAdapter, TrainJob, TrainRow
from seal_core.errors import InputError
from seal_core.models.files.adapter_files import write_adapter
from seal_core.models.loading import LoadedModel
from seal_core.models.logits import next_logits
from seal_core.models.lora_layers import LinearLayers, is_finite
from seal_core.models.text.tokens import EncodedRow
from seal_core.training.checkpoints import can_checkpoint, set_checkpoints, train_adapters_only
from seal_core.training.peft_trainer import encode_job, failed, peft_model, start_weights
from seal_core.training.training_plan import check_settings

_SEED_LIMIT = 2**32
"""NumPy, which the library seeds too, takes no larger seed."""

_WEIGHT = "weight"
"""Column of a row's weight."""

_NO_TARGET = -100
"""The library's label of a token that carries no loss."""


def update_policy(
    loaded: LoadedModel,
    examples: Sequence[TrainRow],
    settings: LoraSettings,
    seed: int,
    out: Path,
    parent_adapter: str | None = None,
    progress: Progress | None = None,
    one_by_one: bool = False,
) -> TrainedAdapter:
    """Trains the next policy's adapter and writes it to the folder `out`.

    Args:
        loaded: The base model; it is wrapped, and cannot be used for anything else afterwards.
        examples: `prompt` is what the policy was asked, `text` the self-edit that was kept.
        settings: As for any adapter, without a token limit.
        parent_adapter: The previous policy's adapter, which training goes on from; its rank
            and targets must be the settings'. None to start from the base model.
        progress: Called after each optimizer step.
        one_by_one: Run rows alone, for models that rows padded on the right do not suit.

    Returns:
        The counts and losses; an `error` instead of a path when a loss was not finite.

    Raises:
        InputError: The settings or the examples cannot be trained on.
    """
    start = time.perf_counter()
    check_settings(settings)
    if settings.max_train_tokens is not None:
        raise InputError("max_train_tokens does not apply to the policy's update: use max_steps")
    job = TrainJob(out.name, tuple(examples), settings, seed, init_adapter=parent_adapter)
    rows = encode_job(loaded, job, weighted=True)
    layers = LinearLayers(loaded.model)
    modules = layers.resolve(settings.targets)
    names = layers.short_names(modules)
    weights = start_weights(layers, job, modules)
    wrapped = peft_model(loaded.model, settings, modules)
    pairs = {}
    for name, (a, b) in weights.items():
        layer = loaded.model.get_submodule(name)
        pairs[name] = layer.lora_A["default"].weight.data, layer.lora_B["default"].weight.data
        pairs[name][0].copy_(a)
        pairs[name][1].copy_(b)
    losses, n_tokens = _fit(wrapped, loaded, rows, settings, seed, progress, one_by_one)
    seconds = time.perf_counter() - start
    if not all(math.isfinite(loss) for loss in losses) or not is_finite(pairs):
        return failed(job, "the update is not finite: lower the learning rate", seconds)
    write_adapter(out, pairs, settings.alpha, settings.dropout, loaded.base, names)
    per_epoch = min(len(losses), math.ceil(len(rows) / settings.batch_size))
    return TrainedAdapter(
        adapter_id=out.name,
        path=str(out),
        n_rows=len(rows),
        n_steps=len(losses),
        n_tokens=n_tokens,
        first_loss=sum(losses[:per_epoch]) / per_epoch,
        final_loss=sum(losses[-per_epoch:]) / per_epoch,
        seconds=seconds,
    )


def _fit(
    wrapped: Any,
    loaded: LoadedModel,
    rows: Sequence[EncodedRow],
    settings: LoraSettings,
    seed: int,
    progress: Progress | None,
    one_by_one: bool,
) -> tuple[list[float], int]:
    """Runs TRL's trainer; returns each step's loss and the tokens that carried it."""
    dropouts = [m.lora_dropout for m in wrapped.modules() if hasattr(m, "lora_dropout")]
    recorder = _Recorder(progress)
    # Nothing is saved there, but the trainer insists on making the folder.
    with tempfile.TemporaryDirectory() as folder:
        # The inner loop's model is without its own dropout: so is the policy's.
        set_checkpoints(loaded.model, loaded.device.type == "cuda")
        train_adapters_only(wrapped, dropouts)
        # TRL refuses an adapter on the head, which its loss would leave out: ours does not.
        wrapped.get_output_embeddings = lambda: None
        trainer = _Trainer(
            model=wrapped,
            args=_arguments(folder, loaded, settings, seed, one_by_one),
            train_dataset=_dataset(rows),
            processing_class=loaded.tokenizer,
            callbacks=[recorder],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    n_tokens = sum(row.n_targets for row in rows) * len(recorder.losses)
    return recorder.losses, round(n_tokens / math.ceil(len(rows) / settings.batch_size))


def _dataset(rows: Sequence[EncodedRow]) -> Dataset:
    """Prompt and completion as ids: tokenized apart, as when the self-edit was sampled.

    Weights in the same proportions with a mean of one, so that they do not change the rate.
    """
    masks = [[0] * row.n_context + [1] * row.n_targets for row in rows]
    ids = [list(row.ids) for row in rows]
    mean = math.fsum(row.weight for row in rows) / len(rows)
    weights = [row.weight / mean for row in rows]
    return Dataset.from_dict({"input_ids": ids, "completion_mask": masks, _WEIGHT: weights})


def _arguments(
    folder: str, loaded: LoadedModel, settings: LoraSettings, seed: int, one_by_one: bool
) -> SFTConfig:
    on_gpu = loaded.device.type == "cuda"
    at_once = 1 if one_by_one else settings.batch_size
    return SFTConfig(
        output_dir=folder,
        per_device_train_batch_size=at_once,
        gradient_accumulation_steps=settings.batch_size // at_once,
        learning_rate=settings.lr,
        lr_scheduler_type="linear" if settings.schedule == "linear" else "constant_with_warmup",
        warmup_steps=settings.warmup_steps,
        weight_decay=settings.weight_decay,
        num_train_epochs=settings.epochs,
        max_steps=settings.max_steps or -1,
        max_grad_norm=settings.clip,
        seed=seed % _SEED_LIMIT,
        completion_only_loss=True,
        remove_unused_columns=False,  # The weights are ours.
        max_length=None,  # The rows are cut already.
        gradient_checkpointing=on_gpu and can_checkpoint(loaded.model),
        use_cpu=not on_gpu,
        bf16=False,  # The model's own precision rules.
        dataloader_pin_memory=on_gpu,
        logging_steps=1,
        logging_nan_inf_filter=False,
        router_aux_loss_coef=0.0,  # The loss is the self-edit's alone: no balance of experts.
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


class _Trainer(SFTTrainer):
    """Takes the loss from the model's own logits, as PEFT's users see them.

    TRL multiplies the last hidden state by the head's bare weights instead: past an adapter on
    the head, and past what some models compute before or after it.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # Of every model the loss is a mean over the step's tokens, in however many passes.
        self.model_accepts_loss_kwargs = True
        collate = self.data_collator

        def with_weights(examples: list[dict[str, Any]]) -> dict[str, Any]:
            weights = torch.tensor([example[_WEIGHT] for example in examples])
            return {**collate(examples), _WEIGHT: weights}

        self.data_collator = with_weights

    def compute_loss(
        self,
        model: Any,
        inputs: Any,
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """The pass's share of the step's mean negative log-probability per target, nats; of each
        row as many times as its weight."""
        ids, labels = inputs["input_ids"], inputs["labels"]
        mask = None if bool(inputs["attention_mask"].all()) else inputs["attention_mask"]
        first = int((labels != _NO_TARGET).any(dim=0).nonzero()[0])
        base = model.get_base_model()
        logits = next_logits(base, ids, ids.shape[1] - first + 1, mask)[:, :-1]
        targets = labels[:, first:]
        losses = functional.cross_entropy(
            logits.transpose(1, 2), targets, ignore_index=_NO_TARGET, reduction="none"
        )
        return (losses.sum(dim=1) * inputs[_WEIGHT].to(losses)).sum() / num_items_in_batch


class _Recorder(TrainerCallback):
    """Keeps every step's loss and tells the caller that a step is done."""

    def __init__(self, progress: Progress | None) -> None:
        self.losses: list[float] = []
        self._progress = progress

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if logs and "loss" in logs:
            self.losses.append(float(logs["loss"]))
            if self._progress is not None:
                self._progress(1)
