"""The sample stage: the policy writes self-edits about each problem's passage."""

from __future__ import annotations

from dataclasses import replace

from seal_core.domains.base import Domain
from seal_core.engines import GenerateRequest, Generation
from seal_core.fingerprint import derive_seed, make_id
from seal_core.stages import Handle, Place
from seal_core.types import Problem, SelfEdit
from tasks.basis import Basis, refs
from tasks.context import RunContext
from tasks.stages.chatting import domain_identity
from tasks.stages.earlier import find_earlier, without_totals
from tasks.stages.policies import PolicyRef, adapter_stack, read_policy
from tasks.stages.shards import read_problems
from tasks.work import Stage, StageOutput, Work

CONTROL_PROMPT = "none"
"""Prompt id of the rows that stand for "train on the passage alone"."""


def sample_works(
    basis: Basis, problems: Handle, policy: Handle, at: Place, per_problem: int
) -> list[Work]:
    """Samples `per_problem` self-edits for each problem."""
    config = basis.config
    settings = {
        **config.sample.model_dump(mode="json", exclude={"edits_per_problem"}),
        "per_problem": per_problem,
        "condition": at.condition,
        "variant": config.rows.variant,
        **domain_identity(config),
        "seed": config.run.seed,
    }
    return basis.works(SAMPLE, at, settings, problems, policy)


def passage_works(basis: Basis, problems: Handle, policy: Handle, at: Place) -> list[Work]:
    """Empty self-edits, whose training rows are the passage alone; nothing is sampled."""
    settings = {"prompt": CONTROL_PROMPT, "condition": at.condition, "per_problem": 1}
    return basis.works(SAMPLE, at, settings, problems, policy)


def copy_works(
    basis: Basis, problems: Handle, policy: Handle, edits: Handle, at: Place
) -> list[Work]:
    """Copies of self-edits for another condition; nothing is sampled."""
    settings = {"prompt": CONTROL_PROMPT, "condition": at.condition}
    copied = {"self_edits": refs(edits, "self_edits")}
    return basis.works(SAMPLE, at, settings, problems, policy, copied)


def _sample(context: RunContext, work: Work) -> StageOutput:
    """Samples the self-edits of one shard of problems."""
    if "self_edits" in work.inputs:
        return StageOutput({"self_edits": _copies(context, work)})
    problems = read_problems(context.store, work.inputs["problems"], work.inputs["questions"])
    policy = read_policy(context, work.inputs["policy"][0])
    is_control = work.settings["prompt"] == CONTROL_PROMPT
    prompt_ids = {
        item: CONTROL_PROMPT if is_control else context.domain.edit_prompt(problem).prompt_id
        for item, problem in problems.items()
    }
    blank_E = [
        _blank_edit(problem, policy, work.settings, index, prompt_ids[problem.problem_id])
        for problem in problems.values()
        for index in range(work.settings["per_problem"])
    ]
    if is_control:
        return StageOutput({"self_edits": blank_E})
    made = {edit.self_edit_id: edit for edit in find_earlier(context, work).rows}
    wanted = [blank for blank in blank_E if blank.self_edit_id not in made]
    requests = [_request(context, problems[e.problem_id], policy, work, e) for e in wanted]
    done = context.progress.begin("self-edits", len(requests))
    generated = context.generator.generate(requests, done)
    fresh = [
        _edit(context.domain, problems[blank.problem_id], blank, generation)
        for blank, generation in zip(wanted, generated, strict=True)
    ]
    made.update((edit.self_edit_id, edit) for edit in fresh)
    return StageOutput(
        {"self_edits": [made[blank.self_edit_id] for blank in blank_E]},
        n_tokens=sum(edit.n_tokens or 0 for edit in fresh),
        n_reused=len(blank_E) - len(fresh),
    )


SAMPLE = Stage("sample", version=4, table="self_edits", uses="answers", body=_sample)


def _copies(context: RunContext, work: Work) -> list[SelfEdit]:
    """Ids are of the condition, so that a join of a run's tables by them finds one condition."""
    return [
        replace(
            edit,
            self_edit_id=make_id("edit", edit.self_edit_id, work.settings),
            condition=work.settings["condition"],
        )
        for ref in work.inputs["self_edits"]
        for edit in context.store.read(ref)
    ]


def _blank_edit(
    problem: Problem, policy: PolicyRef, settings: dict, index: int, prompt_id: str
) -> SelfEdit:
    parts = [problem.problem_id, without_totals(settings), index]
    return SelfEdit(
        self_edit_id=make_id("edit", *parts),
        problem_id=problem.problem_id,
        split=problem.split,
        condition=settings["condition"],
        policy_id=policy.policy.policy_id,
        sample_index=index,
        prompt_id=prompt_id,
        text="",
        n_tokens=0,
        logprob=None,
        finish_reason="none",
        seed=derive_seed("sample", *parts),
        unusable=None,
        error=None,
    )


def _request(
    context: RunContext, problem: Problem, policy: PolicyRef, work: Work, edit: SelfEdit
) -> GenerateRequest:
    prompt = context.domain.edit_prompt(problem)
    return GenerateRequest(
        request_id=edit.self_edit_id,
        prompt=prompt.text,
        adapters=adapter_stack(context.store, policy.policy),
        max_tokens=work.settings["max_tokens"],
        temperature=work.settings["temperature"],
        top_p=work.settings["top_p"],
        stop=prompt.stop,
        seed=edit.seed or 0,  # Only imported rows have none.
        chat=prompt.chat,
    )


def _edit(domain: Domain, problem: Problem, blank: SelfEdit, generation: Generation) -> SelfEdit:
    text = (generation.text or "").strip()
    return replace(
        blank,
        text=text,
        n_tokens=generation.n_tokens,
        logprob=generation.logprob,
        finish_reason=generation.finish_reason,
        unusable=None if generation.error else domain.check_edit(problem, text),
        error=generation.error,
    )
