"""Pretrain the model from nothing on one CPU thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from .corpus import IGNORE, ROW, Batch, Corpus
from .muon import Muon
from .tokenizer import BOS, EOS, PAD, token_id


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides the weights, besides the world.

    Attributes:
        tokens: Length of the pretraining.
        width, layers, heads, feed_forward: The Llama; heads of 32 are what vLLM serves.
        rows: Packed rows a step.
        muon_lr: For matrices.
        adam_lr: For embeddings and norms.
        constant: Share of the steps before the learning rates fall linearly to nothing.
    """

    tokens: int = 10_000_000
    width: int = 128
    layers: int = 4
    heads: int = 4
    feed_forward: int = 384
    rows: int = 8
    muon_lr: float = 0.02
    adam_lr: float = 3e-3
    constant: float = 0.5
    weight_decay: float = 0.0
    seed: int = 0


def new_model(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """An untrained Llama with tied embeddings."""
    torch.manual_seed(recipe.seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.width,
        intermediate_size=recipe.feed_forward,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        head_dim=recipe.width // recipe.heads,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=token_id(tokenizer, BOS),
        eos_token_id=token_id(tokenizer, EOS),
        pad_token_id=token_id(tokenizer, PAD),
    )
    return LlamaForCausalLM(config)


def packed_mask(documents: Tensor) -> Tensor:
    """Causal attention inside each document: [rows, ROW] numbers → bool [rows, 1, ROW, ROW]."""
    same = documents[:, None, :, None] == documents[:, None, None, :]
    return same & torch.ones(documents.shape[1], documents.shape[1], dtype=torch.bool).tril()


def loss_of(model: LlamaForCausalLM, batch: Batch) -> Tensor:
    """Mean cross entropy, in nats, over the positions with a label."""
    hidden = model.model(
        input_ids=batch.ids,
        attention_mask=packed_mask(batch.documents),
        position_ids=batch.positions,
        use_cache=False,
    ).last_hidden_state
    kept = batch.labels != IGNORE
    logits = model.lm_head(hidden[kept])
    return nn.functional.cross_entropy(logits.float(), batch.labels[kept])


def pretrain(
    recipe: Recipe,
    tokenizer: PreTrainedTokenizerFast,
    report: Callable[[str], None] = print,
    checkpoint: Callable[[LlamaForCausalLM, int], None] | None = None,
    every: int = 1000,
) -> LlamaForCausalLM:
    """Train a model; `checkpoint(model, tokens_so_far)` is called each `every` steps."""
    model = new_model(recipe, tokenizer)
    corpus = Corpus(tokenizer, recipe.seed)  # type: ignore[arg-type]
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    chosen = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in chosen]
    muon = Muon(matrices)
    adam = torch.optim.AdamW(others, lr=recipe.adam_lr, betas=(0.9, 0.95), weight_decay=0.0)
    n_steps = max(1, recipe.tokens // (recipe.rows * ROW))
    begun = time.monotonic()
    for step in range(n_steps):
        rate = _rate(step / n_steps, recipe.constant)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = loss_of(model, corpus.batch(recipe.rows, step / n_steps))
        loss.backward()
        nn.utils.clip_grad_norm_(others, 1.0)
        muon.step(recipe.muon_lr * rate, recipe.weight_decay)
        adam.param_groups[0]["lr"] = recipe.adam_lr * rate
        adam.step()
        model.zero_grad(set_to_none=True)
        done = (step + 1) * recipe.rows * ROW
        if (step + 1) % 100 == 0:
            speed = done / (time.monotonic() - begun)
            report(f"{done:,} tokens, loss {loss.item():.3f}, {speed:,.0f} tokens/s")
        if checkpoint and (step + 1) % every == 0:
            checkpoint(model, done)
    return model.eval()


def _rate(progress: float, constant: float) -> float:
    """Learning-rate factor: one, then linear to nothing."""
    return min(1.0, (1 - progress) / (1 - constant))
