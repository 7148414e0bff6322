"""The SEAL flow: rounds of ReST-EM, then the held-out report. Order only.

Zweiger et al. 2025 (arXiv 2506.10943), algorithm 1: sample self-edits, fine-tune an adapter on
each, evaluate without the passage in view, keep the best, fine-tune the policy on them, repeat.
"""

from __future__ import annotations

from collections.abc import Sequence

from prefect import flow

from flows.artifacts import reported
from flows.expected import expected_shards
from flows.loading import load_config, with_store
from flows.worker import dated, watch_worker
from seal_core.types import (
    CONTROL_ROUND,
    IN_CONTEXT,
    INPUT_ONLY,
    INPUT_ONLY_MATCHED,
    NO_ADAPTATION,
    round_condition,
)
from tasks.context import Progress
from tasks.evaluate import evaluate
from tasks.finetune import finetune
from tasks.opening import OpenEngines, OpenRun, engine_processes, open_run
from tasks.policies import PolicyRef, base_policy
from tasks.preflight import Preflight, preflight
from tasks.retention import retain_adapters
from tasks.sample import control_edits, sample
from tasks.score import score
from tasks.select import filter_edits
from tasks.update import update
from tasks.work import ShardResult

Results = list[ShardResult]


@flow(name="seal")
def seal(
    config: str,
    name: str | None = None,
    overrides: Sequence[str] = (),
    fork: str | None = None,
    rehash: bool = False,
) -> str:
    """Runs, or resumes, a SEAL run; returns its name.

    Args:
        config: Path of a TOML file.
        name: Name of the run; default is `run.name` of the config. `{date}` in it stands for
            the day that the flow run is scheduled for, which a retry does not change.
        overrides: Settings as `section.key=value`.
        fork: Run whose finished work this one starts from.
        rehash: Hash the model's files whatever is remembered of them.
    """
    watch_worker()
    checked = preflight(load_config(config, with_store(overrides)), dated(name), rehash)
    with reported(checked.name, checked.config.execution.store) as progress:
        run_rounds(checked, progress, fork=fork)
    return checked.name


def run_rounds(
    checked: Preflight,
    progress: Progress,
    open_engines: OpenEngines = engine_processes,
    fork: str | None = None,
) -> None:
    """Opens a run and works it off, inside a flow run."""
    with open_run(checked, progress, open_engines, fork) as run:
        progress.expect(expected_shards(checked.config, len(run.train), len(run.heldout)))
        restem(run)


def restem(run: OpenRun) -> None:
    """The algorithm, from the base policy to the held-out controls."""
    config = run.context.config
    policy = base = base_policy()
    baseline = evaluate(
        run.heldout, base, condition=NO_ADAPTATION, round_index=CONTROL_ROUND, label="baseline"
    )
    adapters = heldout_round(run, policy, baseline, 0)
    for index in range(config.run.rounds):
        policy = restem_round(run, policy, index)
        retain_adapters(index)
        last = index == config.run.rounds - 1
        if last or config.heldout.every_round:
            adapters = heldout_round(run, policy, baseline, index + 1)
    if config.heldout.controls:
        heldout_controls(run, base, baseline, adapters)
    for index in (config.run.rounds, CONTROL_ROUND):
        retain_adapters(index)


def restem_round(run: OpenRun, policy: PolicyRef, index: int) -> PolicyRef:
    """One round of ReST-EM (Singh et al. 2023) on the training problems."""
    config, name = run.context.config, round_condition(index)
    edits = sample(
        run.train,
        policy,
        condition=name,
        round_index=index,
        per_problem=config.sample.edits_per_problem,
    )
    adapters = finetune(
        run.train, policy, edits, label=name, round_index=index, repeats=config.finetune.repeats
    )
    answers = evaluate(
        run.train, policy, condition=name, round_index=index, label=name, adapters=adapters
    )
    baseline = evaluate(
        run.train, policy, condition=NO_ADAPTATION, round_index=index, label=f"{name} baseline"
    )
    scores = score(edits, answers, baseline, label=name, round_index=index)
    selections = filter_edits(scores, round_index=index)
    return update(run.train, policy, edits, scores, selections, round_index=index)


def heldout_round(run: OpenRun, policy: PolicyRef, baseline: Results, index: int) -> Results:
    """Self-edits of this round's policy on held-out problems; returns their adapters."""
    config, name = run.context.config, round_condition(index)
    edits = sample(
        run.heldout,
        policy,
        condition=name,
        round_index=index,
        per_problem=config.heldout.edits_per_problem,
        label=f"heldout {name}",
    )
    return _heldout_scores(run, policy, edits, baseline, condition=name, round_index=index)


def heldout_controls(run: OpenRun, base: PolicyRef, baseline: Results, adapters: Results) -> None:
    """The passage alone, the passage alone at the edits' steps and tokens, and in context.

    Args:
        adapters: Of the last round's self-edits, which the matched control is matched to.
    """
    evaluate(run.heldout, base, condition=IN_CONTEXT, round_index=CONTROL_ROUND, label=IN_CONTEXT)
    single: Results | None = None
    for condition in (INPUT_ONLY, INPUT_ONLY_MATCHED):
        edits = control_edits(
            run.heldout,
            base,
            condition=condition,
            round_index=CONTROL_ROUND,
            label=f"heldout {condition}",
        )
        matched = None if single is None else list(zip(single, adapters, strict=True))
        single = _heldout_scores(
            run,
            base,
            edits,
            baseline,
            condition=condition,
            round_index=CONTROL_ROUND,
            matched=matched,
        )


def _heldout_scores(
    run: OpenRun,
    policy: PolicyRef,
    edits: Results,
    baseline: Results,
    *,
    condition: str,
    round_index: int,
    matched: list[tuple[ShardResult, ShardResult]] | None = None,
) -> Results:
    label = f"heldout {condition}"
    adapters = finetune(
        run.heldout,
        policy,
        edits,
        label=label,
        round_index=round_index,
        repeats=run.context.config.heldout.repeats,
        matched=matched,
    )
    answers = evaluate(
        run.heldout,
        policy,
        condition=condition,
        round_index=round_index,
        label=label,
        adapters=adapters,
    )
    score(edits, answers, baseline, label=label, round_index=round_index)
    return adapters
