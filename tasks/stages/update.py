"""The update stage: supervised fine-tuning of the policy on the self-edits that were kept."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seal_core.domains.base import Domain
from seal_core.errors import StageError
from seal_core.fingerprint import derive_seed, make_id
from seal_core.kinds.chosen import make_outer_loop
from seal_core.kinds.proofs import weights_fault
from seal_core.kinds.sections import RestemSection
from seal_core.outer_loops import OuterLoop
from seal_core.stages import Handle, Place
from seal_core.types import Policy, Problem, Score, Selection, SelfEdit, TrainRow
from tasks.basis import Basis, refs
from tasks.context import RunContext
from tasks.stages.chatting import domain_identity
from tasks.stages.earlier import find_earlier
from tasks.stages.finetune import to_settings
from tasks.stages.lora import lora_settings
from tasks.stages.policies import PolicyRef, adapter_stack, read_policy
from tasks.stages.shards import read_problems
from tasks.work import Stage, StageOutput, Work


def update_works(
    basis: Basis,
    problems: Handle,
    policy: Handle,
    edits: Handle,
    scores: Handle,
    selected: Handle,
    at: Place,
) -> list[Work]:
    """Trains the next policy, an adapter on the base; what it starts from, the outer loop says.

    The self-edits that it learns from and their weights bear identity, the rule that chose them
    does not: another rule that chooses the same ones trains nothing again.
    """
    config = basis.config
    loop = make_outer_loop(config)

    def kept(selections: list[Selection]) -> list[Any]:
        written = [basis.told(ref, list) for ref in refs(edits, "self_edits")]
        rewarded = basis.told(refs(scores, "scores")[0], list)
        edits_of = [row for rows in written for row in rows]
        return _weighted(config.outer_loop.kind, loop, edits_of, rewarded, selections)

    settings = {
        "lora": lora_settings(config.update),
        "prompt": config.sample.prompt,
        "variant": config.rows.variant,
        **domain_identity(config),
        "policy": basis.policy_id(policy),
        "seed": config.run.seed,
        "start": loop.start,
        "kept": basis.told(refs(selected, "selections")[0], kept),
    }
    inputs = {
        "problems": refs(problems, "problems"),
        "questions": refs(problems, "questions"),
        "self_edits": refs(edits, "self_edits"),
        "policy": refs(policy, "policies"),
    }
    return [basis.work(UPDATE, at, settings, inputs)]


def _weighted(
    kind: str,
    loop: OuterLoop,
    edits: Sequence[SelfEdit],
    scores: Sequence[Score],
    selections: Sequence[Selection],
) -> list[Any]:
    """Ids of the self-edits that the policy learns from; with weights where these are not alike.

    In the order of `edits` and relative to their mean, so that an equal choice is the same work.
    """
    weights = loop.weights(edits, scores, selections)
    if fault := weights_fault(edits, weights):
        raise StageError(f"outer_loop.kind = {kind!r} {fault}")
    ids = [edit.self_edit_id for edit in edits if edit.self_edit_id in weights]
    mean = math.fsum(weights.values()) / max(1, len(ids))
    # Twelve digits: 0.1 and 0.3 are not exactly a tenth of 1 and 3.
    shares = [float(f"{weights[item] / mean:.12g}") for item in ids]
    return ids if set(shares) <= {1.0} else [list(pair) for pair in zip(ids, shares, strict=True)]


def _update(context: RunContext, work: Work) -> StageOutput:
    """Trains the next policy on prompt and kept self-edit."""
    kept = _kept(context, work)
    if not kept:
        raise StageError(_nothing_to_learn(context, work))
    earlier = find_earlier(context, work, "self_edits")
    if earlier.rows and kept == _weighed(earlier.given, work):
        return StageOutput({"policies": earlier.rows}, n_reused=len(earlier.rows))
    policy = read_policy(context, work.inputs["policy"][0])
    problems = read_problems(context.store, work.inputs["problems"], work.inputs["questions"])
    examples = [_example(context.domain, problems[own.problem_id], own, w) for own, w in kept]
    with tempfile.TemporaryDirectory(dir=context.scratch) as folder:
        trained = context.trainer.update_policy(
            examples,
            to_settings(work.settings["lora"]),
            seed=derive_seed("update", policy.policy.policy_id, work.settings["seed"]),
            out=Path(folder) / "policy",
            parent_adapter=None
            if work.settings["start"] == "base"
            else _adapter_of(context, policy),
        )
        if trained.error is not None or trained.path is None:
            raise StageError(f"the update of {policy.policy.policy_id} failed: {trained.error}")
        uri, sha256 = context.store.put_adapter(Path(trained.path))
    return StageOutput(
        {
            "policies": [
                Policy(
                    policy_id=make_id("policy", context.model_digest, sha256),
                    parent=policy.policy.policy_id,
                    base_model=policy.policy.base_model,
                    model_digest=context.model_digest,
                    uri=uri,
                    sha256=sha256,
                    n_examples=len(examples),
                    n_steps=trained.n_steps,
                    final_loss=trained.final_loss,
                )
            ]
        },
        n_tokens=trained.n_tokens,
    )


UPDATE = Stage("update", version=5, table="policies", uses="updates", body=_update)


def _nothing_to_learn(context: RunContext, work: Work) -> str:
    loop = context.config.outer_loop
    edits = [edit for ref in work.inputs["self_edits"] for edit in context.store.read(ref)]
    n_cut = sum(edit.finish_reason == "length" for edit in edits)
    advice = "lower selection.min_gain, or sample more self-edits per problem"
    if n_cut and isinstance(loop, RestemSection) and loop.cut == "leave_out":
        advice = (
            f"{n_cut} of {len(edits)} were cut and are left out: raise sample.max_tokens, set "
            f"outer_loop.cut = 'open', {advice}"
        )
    return f"round {work.round_index} kept no self-edit to learn from: {advice}"


def _kept(context: RunContext, work: Work) -> list[tuple[SelfEdit, float]]:
    """What the policy learns from, and the weights."""
    refs = work.inputs["self_edits"]
    return _weighed([edit for ref in refs for edit in context.store.read(ref)], work)


def _weighed(edits: Sequence[SelfEdit], work: Work) -> list[tuple[SelfEdit, float]]:
    kept = work.settings["kept"]
    weights: dict[str, float] = dict((i, 1.0) if isinstance(i, str) else tuple(i) for i in kept)
    return [(e, weights[e.self_edit_id]) for e in edits if e.self_edit_id in weights]


def _example(domain: Domain, problem: Problem, edit: SelfEdit, weight: float) -> TrainRow:
    """What the policy was asked, and what it wrote; a text that was cut is not taught to end."""
    prompt = domain.edit_prompt(problem)
    return TrainRow(
        text=edit.text,
        prompt=prompt.text,
        chat=prompt.chat,
        is_open=edit.finish_reason == "length",
        weight=weight,
    )


def _adapter_of(context: RunContext, policy: PolicyRef) -> str | None:
    return next(iter(adapter_stack(context.store, policy.policy)), None)
