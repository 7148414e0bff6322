"""The finetune stage: one LoRA adapter per self-edit and repeat, all on the same policy."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from seal_core.domains.base import Domain
from seal_core.domains.rows import rows_digest
from seal_core.engines import NEEDS_POLICY, LoraSettings, TrainedAdapter, TrainJob, results_fault
from seal_core.errors import StageError
from seal_core.fingerprint import derive_seed, make_id
from seal_core.stages import Handle, Place
from seal_core.types import Adapter, Problem, SelfEdit, TableRef
from storage.runs.pruning import is_pruned
from tasks.basis import Basis, refs
from tasks.context import RunContext
from tasks.stages.chatting import domain_identity
from tasks.stages.earlier import find_earlier, without_totals
from tasks.stages.lora import finetune_settings
from tasks.stages.policies import PolicyRef, adapter_stack, read_policy
from tasks.stages.shards import read_problems
from tasks.work import Stage, StageOutput, Work


def finetune_works(
    basis: Basis,
    problems: Handle,
    policy: Handle,
    edits: Handle,
    at: Place,
    repeats: int,
    match: tuple[Handle, Handle] | None,
) -> list[Work]:
    """Trains the adapters of every self-edit.

    Args:
        match: For the matched control, the adapters of the passage alone, and those of the
            self-edits to match. See `matched_steps`.
    """
    config = basis.config
    settings = {
        "lora": finetune_settings(config.finetune),
        "rows": config.rows.model_dump(mode="json"),
        **domain_identity(config),
        "repeats": repeats,
        "unusable": config.finetune.unusable,
        "seed": config.run.seed,
    }
    inputs = {"self_edits": refs(edits, "self_edits")}
    if match is not None:
        inputs["single"], inputs["target"] = (refs(adapters, "adapters") for adapters in match)
    return basis.works(FINETUNE, at, settings, problems, policy, inputs)


def _finetune(context: RunContext, work: Work) -> StageOutput:
    """Trains the adapters of one shard of self-edits."""
    problems = read_problems(context.store, work.inputs["problems"], work.inputs["questions"])
    policy = read_policy(context, work.inputs["policy"][0])
    edits = [edit for ref in work.inputs["self_edits"] for edit in context.store.read(ref)]
    steps = _matched_steps_by_problem(context, work)
    pairs = [
        (edit, _blank_adapter(edit, policy, work.settings, repeat))
        for edit in edits
        for repeat in range(work.settings["repeats"])
    ]
    stack = adapter_stack(context.store, policy.policy)
    made = _made_before(context, work, edits)
    jobs = {
        adapter.adapter_id: job
        for edit, adapter in pairs
        if adapter.adapter_id not in made
        and (
            job := _job(
                context.domain, problems[edit.problem_id], edit, adapter, work, steps, stack
            )
        )
    }
    with tempfile.TemporaryDirectory(dir=context.scratch) as folder:
        done = context.progress.begin("adapters", len(jobs))
        trained = context.trainer.train(list(jobs.values()), Path(folder), done)
        if fault := results_fault(jobs, trained):
            raise StageError(f"trainer.kind = {context.config.trainer.kind!r} {fault}")
        by_id = {result.adapter_id: result for result in trained}
        fresh = [
            _adapter(
                context, edit, blank, jobs.get(blank.adapter_id), by_id.get(blank.adapter_id), steps
            )
            for edit, blank in pairs
            if blank.adapter_id not in made
        ]
    made.update((row.adapter_id, row) for row in fresh)
    return StageOutput(
        {"adapters": [made[blank.adapter_id] for _, blank in pairs]},
        n_tokens=sum(row.n_tokens or 0 for row in fresh),
        n_reused=len(pairs) - len(fresh),
    )


FINETUNE = Stage("finetune", version=5, table="adapters", uses="training", body=_finetune)


def _made_before(context: RunContext, work: Work, edits: Sequence[SelfEdit]) -> dict[str, Adapter]:
    """Adapters of the same self-edits, by id; not those whose weights were removed since."""
    earlier = find_earlier(context, work, "self_edits")
    same = set(edits) & set(earlier.given)
    ids = {edit.self_edit_id for edit in same}
    rows = [row for row in earlier.rows if row.self_edit_id in ids]
    return {row.adapter_id: row for row in rows if not is_pruned(context.store, row)}


def _job(
    domain: Domain,
    problem: Problem,
    edit: SelfEdit,
    adapter: Adapter,
    work: Work,
    steps: dict[str, int] | None,
    stack: tuple[str, ...],
) -> TrainJob | None:
    """What an adapter is trained on; None if on nothing.

    Args:
        steps: Of the matched control, by problem.
    """
    text = edit.text
    if edit.unusable is not None:
        if work.settings["unusable"] == "nothing":
            return None
        text = ""
    if edit.error is not None or (steps is not None and not steps.get(edit.problem_id)):
        return None
    default = to_settings(work.settings["lora"], (steps or {}).get(edit.problem_id))
    settings = domain.train_settings(problem, text, default)
    if not isinstance(settings, LoraSettings):
        raise StageError(f"the domain's train_settings gives {type(settings).__name__}")
    if settings.rank > default.rank:
        raise StageError(
            f"the domain trains {edit.self_edit_id} with rank {settings.rank}, above "
            f"finetune.rank = {default.rank}: raise that"
        )
    rows = domain.train_rows(problem, text)
    if edit.unusable is not None and not rows:
        return None
    return TrainJob(
        adapter_id=adapter.adapter_id,
        rows=rows,
        settings=settings,
        seed=adapter.seed or 0,  # Only imported rows have none.
        base_adapters=stack,
    )


def to_settings(lora: dict, max_steps: int | None = None) -> LoraSettings:
    """Inverse of `lora_settings`, with a limit of steps if there is one."""
    return LoraSettings(**{**lora, "targets": tuple(lora["targets"]), "max_steps": max_steps})


def _blank_adapter(edit: SelfEdit, policy: PolicyRef, settings: dict, repeat: int) -> Adapter:
    parts = [edit.self_edit_id, without_totals(settings), repeat]
    return Adapter(
        adapter_id=make_id("adapter", *parts),
        self_edit_id=edit.self_edit_id,
        problem_id=edit.problem_id,
        split=edit.split,
        condition=edit.condition,
        policy_id=policy.policy.policy_id,
        repeat=repeat,
        uri=None,
        sha256=None,
        rank=settings["lora"]["rank"],
        rows_sha256=None,
        n_rows=0,
        n_steps=0,
        n_tokens=0,
        first_loss=None,
        final_loss=None,
        seed=derive_seed("finetune", *parts),
        error=None,
    )


def _adapter(
    context: RunContext,
    edit: SelfEdit,
    blank: Adapter,
    job: TrainJob | None,
    trained: TrainedAdapter | None,
    steps: dict[str, int] | None,
) -> Adapter:
    if job is None or trained is None:
        if steps is not None and edit.problem_id not in steps:
            return replace(blank, error="not trained: there is no adapter to match")
        # What teaches nothing leaves the policy as it is, which answers then.
        return replace(blank, error=f"not trained: {edit.error}" if edit.error else None)
    uri, sha256 = None, None
    if trained.path is not None:
        note = {NEEDS_POLICY: blank.policy_id} if job.base_adapters else {}
        uri, sha256 = context.store.put_adapter(Path(trained.path), note)
    told = ("n_rows", "n_steps", "n_tokens", "first_loss", "final_loss", "error")
    return replace(
        blank,
        uri=uri,
        sha256=sha256,
        rank=job.settings.rank,
        rows_sha256=rows_digest(job.rows),
        **{name: getattr(trained, name) for name in told},
    )


def _matched_steps_by_problem(context: RunContext, work: Work) -> dict[str, int] | None:
    """Steps of the matched control; None in any other condition, which trains by epochs."""
    if "target" not in work.inputs:
        return None
    single = _first_adapters(context, work.inputs["single"])
    target = _first_adapters(context, work.inputs["target"])
    return {p: matched_steps(single[p], target[p]) for p in single if p in target}


def _first_adapters(context: RunContext, refs: Sequence[TableRef]) -> dict[str, Adapter]:
    rows = [row for ref in refs for row in context.store.read(ref) if row.error is None]
    return {row.problem_id: row for row in reversed(rows)}


def matched_steps(single: Adapter, target: Adapter) -> int:
    """Steps on the passage alone that spend at least the steps and the tokens of `target`.

    Steps and tokens cannot both be equal when the rows differ in length; the control gets the
    larger of the two, so it is never trained on less than the self-edits are.
    """
    single_steps, single_tokens = _spent(single)
    target_steps, target_tokens = _spent(target)
    return max(target_steps, math.ceil(target_tokens / (single_tokens / single_steps)))


def _spent(adapter: Adapter) -> tuple[int, int]:
    """Steps and tokens of a training, which only imported adapters do not tell."""
    if adapter.n_steps is None or adapter.n_tokens is None:
        raise StageError(f"{adapter.adapter_id} has no count of steps and tokens to be matched")
    return adapter.n_steps, adapter.n_tokens
