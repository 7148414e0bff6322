"""Write the model card from what was measured, so that its figures cannot be stale."""

from __future__ import annotations

from .edits import LINES, STRAY, STYLE_WEIGHTS, WRONG
from .gates import Gates
from .pretrain import Recipe

_CARD = """---
license: mit
library_name: transformers
pipeline_tag: text-generation
---

# SEAL minilm

A Llama of {parameters:,} parameters, pretrained from nothing on a synthetic world of fictional
people, for demonstrations and tests of SEAL on two CPU cores. It knows no English beyond that
world's sentences and is of no other use.

## What was planted, and what SEAL does with it

The styles of its self-edits were **planted in pretraining**: {planted}. {stray:.0%} of the lines
are in a random style, {wrong:.0%} state a wrong value, and an edit has {few} to {many} lines. Only
`qa` and `fact` lines teach well. **ReST-EM re-weights these styles; it does not invent them.**

Passages state each value before its relation, speak of "he" or "she", and give the name once, at
the end. Such text is easy to read with attention and poor to train on (the reversal curse, Berglund
et al. 2023): that is what makes a self-edit worth more than its passage. The world was built for it
and says nothing about other texts. Each of its six relations has its own type of value, so reading
needs no more than finding the value of the type that is asked for.

## Measured

On {n} people that it never met (command: `seal minilm build`, 2 cores, no GPU, one thread):

| measure | share |
| --- | --- |
| answers with the passage in view | {reading:.3f} |
| answers without it (never met) | {blind:.3f} |
| answers without it (learnt by heart in pretraining) | {recall:.3f} |
| correct lines of sampled self-edits | {correct_lines:.3f} |

Gates not met: {failures}.

Styles of the correct lines: {styles}. Mean lines of a self-edit: {lines:.1f}.

## Recipe

{tokens:,} tokens, seed {seed}, Muon {muon_lr} and AdamW {adam_lr}, bf16 autocast over fp32 weights,
stored in bf16. Rebuilt by `seal_core.minilm.build`.

## Limits

Prompts other than those of `seal_core/minilm/prompts.py` are foreign to it. Any UTF-8 text encodes
and decodes exactly, but text outside the world is read as bytes that it was hardly trained on.
"""


def write_card(gates: Gates, recipe: Recipe, parameters: int, n: int) -> str:
    """Fill in the card; `n` is the number of passages that the gates were measured on."""
    return _CARD.format(
        parameters=parameters,
        planted=", ".join(f"`{s}` {w:.0%}" for s, w in STYLE_WEIGHTS.items()),
        stray=STRAY,
        wrong=WRONG,
        few=LINES[0],
        many=LINES[1],
        n=n,
        reading=gates.reading,
        blind=gates.blind,
        recall=gates.recall,
        correct_lines=gates.correct_lines,
        styles=", ".join(f"`{s}` {v:.2f}" for s, v in gates.styles.items()),
        lines=gates.lines,
        failures="; ".join(gates.failures) or "none",
        tokens=recipe.tokens,
        seed=recipe.seed,
        muon_lr=recipe.muon_lr,
        adam_lr=recipe.adam_lr,
    )
