"""Plain transformers and plain PEFT on one row at a time: what the engines are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional
from transformers import AutoModelForCausalLM, GenerationConfig

from tests.zoo.vocabulary import EOS, PAD

RANK, ALPHA = 4, 8.0
LR, CLIP, STEPS = 2e-3, 1.0, 3
_STRENGTH = 0.3
"""Size of an adapter's delta against the layer's own weights: enough to change most answers."""

Row = tuple[list[int], list[int]]
"""Tokens of a training row: those that are shown, and those that are trained on."""

PlainTraining = tuple[dict[str, torch.Tensor], list[float]]
"""An adapter's tensors by their names in its file, and the loss of each step, nats."""


class CannotError(Exception):
    """Plain transformers or PEFT cannot do it either; the message is theirs."""


@dataclass(frozen=True, slots=True)
class PlainAnswer:
    """A greedy answer.

    Attributes:
        logprob: Sum over its tokens at temperature 1, nats.
        margin: Smallest distance of a chosen token's logit to the next one's; where it is
            as small as rounding, another answer is as right.
    """

    ids: list[int]
    logprob: float
    margin: float


def load_plain(folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    """The model as anyone loads it."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()


def check_layers(folder: Path, names: Sequence[str]) -> None:
    """Passes if plain PEFT adapts exactly these layers when it is given their names.

    Raises:
        CannotError: PEFT bars some, or takes their names for experts' parameters.
    """
    try:
        wrapped = _wrap(load_plain(folder), names)
    except Exception as error:
        raise CannotError(f"PEFT makes no adapter: {error}") from error
    places = {name.rpartition(".lora_A.")[0] for name, _ in wrapped.named_parameters()} - {""}
    other = places ^ {f"base_model.model.{name}" for name in names}
    if other:
        raise CannotError(f"PEFT does not adapt the same layers: {sorted(other)[:3]}")


def _wrap(model: Any, names: Sequence[str]) -> Any:
    config = LoraConfig(
        r=RANK,
        lora_alpha=ALPHA,  # pyright: ignore[reportArgumentType] (floats work)
        target_modules=list(names),
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, config).eval()


def save_adapter(folder: Path, out: Path, names: Sequence[str], seed: int) -> None:
    """Writes a random adapter on these layers through PEFT itself."""
    wrapped = _wrap(load_plain(folder), names)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in wrapped.named_parameters():
        if ".lora_" in name:
            fan_in = parameter.shape[1]
            scale = _STRENGTH * RANK / ALPHA if ".lora_B" in name else 1.0
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.data.copy_(scale * noise / fan_in**0.5)
    wrapped.save_pretrained(out)


@torch.no_grad()
def _fill(wrapped: Any, path: Path, adapter: str) -> None:
    """Gives the layers their numbers by name; PEFT renames some as it would a checkpoint's."""
    parameters = dict(wrapped.named_parameters())
    for key, tensor in load_file(path / "adapter_model.safetensors").items():
        parameters[f"{key.removesuffix('.weight')}.{adapter}.weight"].copy_(tensor)


class PlainAnswers:
    """Answers and scores of single rows, each with one adapter or none."""

    def __init__(self, folder: Path, adapters: dict[str, Path]) -> None:
        self._base = load_plain(folder)
        self._wrapped: Any = None
        for name, path in adapters.items():
            if self._wrapped is None:
                self._wrapped = PeftModel.from_pretrained(self._base, path, adapter_name=name)
            else:
                self._wrapped.load_adapter(path, adapter_name=name)
            _fill(self._wrapped, path, name)
        self._base.eval()

    def answer(
        self, prompt: Sequence[int], adapter: str | None, max_tokens: int, stops: Sequence[int]
    ) -> PlainAnswer:
        """The greedy answer of `generate()`.

        Raises:
            CannotError: It does not answer.
        """
        config = GenerationConfig(
            max_new_tokens=max_tokens,
            do_sample=False,
            eos_token_id=list(stops),
            pad_token_id=PAD,
            output_logits=True,
            return_dict_in_generate=True,
        )
        ids = torch.tensor([list(prompt)])
        self._base.generation_config = config
        with torch.no_grad():
            out = self._call(
                adapter,
                lambda model: model.generate(
                    input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=config
                ),
            )
        chosen = out.sequences[0, ids.shape[1] :]
        logits = torch.cat(list(out.logits)).double()
        picked = logits.gather(1, chosen[:, None])[:, 0]
        best = logits.topk(2, dim=-1).values
        return PlainAnswer(
            chosen.tolist(),
            float((picked - logits.logsumexp(dim=-1)).sum()),
            float((best[:, 0] - best[:, 1]).min()),
        )

    def score(self, prompt: Sequence[int], completion: Sequence[int], adapter: str | None) -> float:
        """Log-probability of the completion after the prompt, nats, from one forward pass."""
        ids = torch.tensor([[*prompt, *completion]])
        with torch.no_grad():
            out = self._call(adapter, lambda model: model(input_ids=ids, use_cache=False))
        logits = out.logits[0, len(prompt) - 1 : -1].double()
        targets = torch.tensor(list(completion))
        return float(-functional.cross_entropy(logits, targets, reduction="sum"))

    def _call(self, adapter: str | None, work: Any) -> Any:
        try:
            if self._wrapped is None:
                return work(self._base)
            if adapter is None:
                with self._wrapped.disable_adapter():
                    return work(self._wrapped)
            self._wrapped.set_adapter(adapter)
            return work(self._wrapped)
        except Exception as error:
            raise CannotError(f"{type(error).__name__}: {error}") from error


def train_plain(
    folder: Path, start: Path, rows: Sequence[Row], dtype: torch.dtype
) -> PlainTraining:
    """Trains an adapter further on all rows in every step, each row in a pass of its own.

    Raises:
        CannotError: PEFT cannot train it.
    """
    try:
        wrapped: Any = PeftModel.from_pretrained(
            load_plain(folder, dtype), start, is_trainable=True
        ).eval()
        _fill(wrapped, start, "default")
        parameters = [p for p in wrapped.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=LR, weight_decay=0.0)
        losses = []
        for step in range(STEPS):
            optimizer.zero_grad()
            losses.append(_backward(wrapped, rows))
            nn.utils.clip_grad_norm_(parameters, CLIP)
            optimizer.param_groups[0]["lr"] = LR * (STEPS - step) / STEPS
            optimizer.step()
        return dict(get_peft_model_state_dict(wrapped)), losses
    except Exception as error:
        raise CannotError(f"{type(error).__name__}: {error}") from error


def _backward(model: Any, rows: Sequence[Row]) -> float:
    """Gradients of the mean loss per target over all rows, in each of which an end token follows.

    A text's first token is no target where nothing stands before it.
    """
    texts = [(prompt, [*text, EOS]) for prompt, text in rows]
    count = sum(len(text) - (not prompt) for prompt, text in texts)
    total = 0.0
    for prompt, text in texts:
        ids, first = torch.tensor([[*prompt, *text]]), max(len(prompt), 1)
        logits = model(input_ids=ids, use_cache=False).logits[0, first - 1 : -1]
        loss = functional.cross_entropy(logits, ids[0, first:], reduction="sum") / count
        loss.backward()
        total += loss.item()
    return total
