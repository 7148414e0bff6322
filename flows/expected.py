"""Counts the shards that the `seal` flow will run, stage by stage, before it starts."""

from __future__ import annotations

from collections import Counter

from seal_core.config import Config


def expected_shards(config: Config, train: int, heldout: int) -> Counter[str]:
    """Shards by stage of a whole run.

    Args:
        train, heldout: Shards of problems of each split.
    """
    rounds = config.run.rounds
    policies = 1 + (rounds if config.heldout.every_round else min(rounds, 1))
    controls = 2 if config.heldout.controls else 0
    adapted = (policies + controls) * heldout + rounds * train
    unadapted = heldout * (2 if controls else 1) + rounds * train
    return Counter(
        sample=adapted,
        finetune=adapted,
        evaluate=adapted + unadapted,
        score=policies + controls + rounds,
        filter=rounds,
        update=rounds,
    )


def evaluation_shards(heldout: int) -> Counter[str]:
    """Shards by stage of the evaluation of one policy; `heldout` are the shards of problems."""
    return Counter(sample=heldout, finetune=heldout, evaluate=2 * heldout, score=1)
