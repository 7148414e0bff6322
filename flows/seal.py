"""The algorithm: rounds of ReST-EM, the held-out measurements and their controls. Order only.

Zweiger et al. 2025 (arXiv 2506.10943), algorithm 1: sample self-edits, fine-tune an adapter on
each, evaluate without the passage in view, keep the best, fine-tune the policy on them, repeat.
"""

from __future__ import annotations

from seal_core.config import Config
from seal_core.stages import Handle, Place, Stages
from seal_core.types import (
    BASE_EDITS_ON_LAST,
    CONTROL_ROUND,
    IN_CONTEXT,
    INPUT_ONLY,
    INPUT_ONLY_MATCHED,
    LAST_EDITS_ON_BASE,
    NO_ADAPTATION,
    round_condition,
)

BASELINE = Place("baseline", NO_ADAPTATION, CONTROL_ROUND)


def restem(stages: Stages, config: Config) -> None:
    """The algorithm, from the base policy to the held-out controls."""
    train, heldout = stages.problems("train"), stages.problems("heldout")
    policy = base = stages.base_policy()
    baseline = stages.evaluate(heldout, base, BASELINE)
    edits, adapters = heldout_round(stages, config, policy, baseline, 0)
    first = edits
    for index in range(config.run.rounds):
        policy = restem_round(stages, config, train, policy, index)
        stages.retain(index)
        last = index == config.run.rounds - 1
        if last or config.heldout.every_round:
            edits, adapters = heldout_round(stages, config, policy, baseline, index + 1)
    if config.heldout.controls:
        heldout_controls(stages, config, base, baseline, adapters)
    if config.heldout.crossed and config.run.rounds:
        heldout_copies(stages, config, base, edits, baseline, LAST_EDITS_ON_BASE)
        heldout_copies(stages, config, policy, first, baseline, BASE_EDITS_ON_LAST)
    for index in (config.run.rounds, CONTROL_ROUND):
        stages.retain(index)


def restem_round(
    stages: Stages, config: Config, train: Handle, policy: Handle, index: int
) -> Handle:
    """One round of ReST-EM (Singh et al. 2023) on the training problems; the next policy."""
    name = round_condition(index)
    at = Place(name, name, index)
    edits = stages.sample(train, policy, at, config.sample.edits_per_problem)
    adapters = stages.finetune(train, policy, edits, at, config.finetune.repeats)
    answers = stages.evaluate(train, policy, at, adapters)
    baseline = stages.evaluate(train, policy, Place(f"{name} baseline", NO_ADAPTATION, index))
    scores = stages.score(edits, answers, baseline, at)
    selected = stages.select(scores, at)
    return stages.update(train, policy, edits, scores, selected, at)


def heldout_round(
    stages: Stages, config: Config, policy: Handle, baseline: Handle, index: int
) -> tuple[Handle, Handle]:
    """Self-edits of this round's policy on held-out problems; returns them and their adapters."""
    at = _heldout(round_condition(index), index)
    edits = stages.sample(stages.problems("heldout"), policy, at, config.heldout.edits_per_problem)
    return edits, _measure(stages, config, policy, edits, baseline, at)


def heldout_controls(
    stages: Stages, config: Config, base: Handle, baseline: Handle, adapters: Handle
) -> None:
    """The passage alone, the passage alone at the edits' steps and tokens, and in context.

    Args:
        adapters: Of the last round's self-edits, which the matched control is matched to.
    """
    heldout = stages.problems("heldout")
    stages.evaluate(heldout, base, Place(IN_CONTEXT, IN_CONTEXT, CONTROL_ROUND))
    at = _heldout(INPUT_ONLY, CONTROL_ROUND)
    edits = stages.passages(heldout, base, at)
    single = _measure(stages, config, base, edits, baseline, at)
    at = _heldout(INPUT_ONLY_MATCHED, CONTROL_ROUND)
    edits = stages.passages(heldout, base, at)
    _measure(stages, config, base, edits, baseline, at, match=(single, adapters))


def heldout_copies(
    stages: Stages, config: Config, policy: Handle, edits: Handle, baseline: Handle, condition: str
) -> None:
    """Self-edits that one policy wrote, trained on another."""
    at = _heldout(condition, CONTROL_ROUND)
    copies = stages.copies(stages.problems("heldout"), policy, edits, at)
    _measure(stages, config, policy, copies, baseline, at)


def heldout_evaluation(stages: Stages, config: Config, policy: Handle, index: int) -> None:
    """One policy alone: the baseline, and its self-edits on held-out problems.

    Args:
        index: The round that it is measured as the policy of.
    """
    baseline = stages.evaluate(stages.problems("heldout"), stages.base_policy(), BASELINE)
    heldout_round(stages, config, policy, baseline, index)
    stages.retain(index)


def _measure(
    stages: Stages,
    config: Config,
    policy: Handle,
    edits: Handle,
    baseline: Handle,
    at: Place,
    match: tuple[Handle, Handle] | None = None,
) -> Handle:
    heldout = stages.problems("heldout")
    adapters = stages.finetune(heldout, policy, edits, at, config.heldout.repeats, match)
    answers = stages.evaluate(heldout, policy, at, adapters)
    stages.score(edits, answers, baseline, at)
    return adapters


def _heldout(condition: str, index: int) -> Place:
    return Place(f"heldout {condition}", condition, index)
