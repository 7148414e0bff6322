"""Rebuild the packaged model from nothing: tokenizer, pretraining, gates, files."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from transformers import GenerationConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from .card import write_card
from .gates import Gates, measure
from .pretrain import Recipe, pretrain
from .tokenizer import save_tokenizer

_GATE_PASSAGES = 100


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What a build made.

    Attributes:
        path: Folder of the model.
        tokens: Pretraining tokens.
        parameters: Weights, tied embeddings counted once.
        size: Bytes of the folder.
        seconds: Wall time.
        gates: What the model can do.
    """

    path: Path
    tokens: int
    parameters: int
    size: int
    seconds: float
    gates: Gates


def build(
    out: Path,
    *,
    seed: int = 0,
    tokens: int | None = None,
    threads: int = 1,
    report: Callable[[str], None] = print,
) -> BuildReport:
    """Pretrain a model and write it to `out`; it fails no gate silently, but is written anyhow.

    Args:
        out: Folder to write; made when missing.
        seed: Of the weights and of the corpus.
        tokens: Length of the pretraining; None is the packaged model's (about half an hour on
            one core). A few thousand make a toy that loads and knows nothing.
        threads: CPU threads for PyTorch; one is fastest on a shared machine.
        report: Receives a line of progress now and then.
    """
    begun = time.monotonic()
    recipe = replace(Recipe(seed=seed), **({} if tokens is None else {"tokens": tokens}))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        out.mkdir(parents=True, exist_ok=True)
        tokenizer = save_tokenizer(out)
        model = pretrain(recipe, tokenizer, report)
        n = _GATE_PASSAGES if recipe.tokens >= Recipe().tokens else 4
        gates = write_model(model, tokenizer, recipe, out, n)
    finally:
        torch.set_num_threads(before)
    for failure in gates.failures:
        report(f"gate not met: {failure}")
    return BuildReport(
        path=out,
        tokens=recipe.tokens,
        parameters=sum(p.numel() for p in model.parameters()),
        size=sum(f.stat().st_size for f in out.iterdir()),
        seconds=time.monotonic() - begun,
        gates=gates,
    )


def write_model(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    recipe: Recipe,
    out: Path,
    n: int = _GATE_PASSAGES,
) -> Gates:
    """Write weights in bf16, the generation settings and the card; return the gates.

    The gates are measured on the weights as stored, rounded to bf16.
    """
    stored = model.to(torch.bfloat16)  # pyright: ignore[reportArgumentType]
    stored.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        do_sample=False,
    )
    stored.save_pretrained(out)
    gates = measure(stored.float().eval(), tokenizer, n)
    parameters = sum(p.numel() for p in model.parameters())
    card = out / "MODEL_CARD.md"
    partial = card.with_suffix(".partial")
    partial.write_text(write_card(gates, recipe, parameters, n), encoding="utf-8")
    os.replace(partial, card)
    return gates
