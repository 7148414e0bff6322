"""The update stage: supervised fine-tuning of the policy on the self-edits that were kept."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from seal_core.errors import StageError
from seal_core.fingerprint import derive_seed, make_id
from seal_core.types import Policy, SelfEdit, TableRef, TrainRow
from tasks.chatting import chat_identity
from tasks.context import RunContext, current
from tasks.finetune import to_settings
from tasks.lora import lora_settings
from tasks.planning import is_pending
from tasks.policies import PolicyRef, adapter_stack, read_policy
from tasks.shards import Shard, read_problems
from tasks.stage import run_stage, stage_task
from tasks.work import ShardResult, StageOutput, Work

VERSION = 4


def update(
    shards: Sequence[Shard],
    policy: PolicyRef,
    edits: Sequence[ShardResult],
    selections: TableRef,
    *,
    round_index: int,
) -> PolicyRef:
    """The next policy, an adapter on the base that goes on from the current policy's.

    The self-edits that were kept bear identity, the rule that kept them does not: another rule
    that keeps the same ones trains nothing again.
    """
    config = current().config
    work = Work.build(
        "update",
        VERSION,
        label=f"update round_{round_index}",
        shard=0,
        round_index=round_index,
        settings={
            "lora": lora_settings(config.update),
            "prompt": config.sample.prompt,
            "variant": config.rows.variant,
            **chat_identity(config),
            "policy": policy.policy.policy_id,
            "seed": config.run.seed,
            "kept": _kept(selections),
        },
        inputs={
            "problems": [shard.problems for shard in shards],
            "questions": [shard.questions for shard in shards],
            "self_edits": [result.ref("self_edits") for result in edits],
            **policy.inputs,
            # In a plan it says what the kept self-edits wait for.
            **({"selections": [selections]} if is_pending(selections) else {}),
        },
        model_digest=current().model_digest,
    )
    (result,) = run_stage(update_shard, [work])
    return read_policy(current(), result.ref("policies"))


def _kept(selections: TableRef) -> list[str]:
    if is_pending(selections):
        return [selections.sha256]
    return [row.self_edit_id for row in current().store.read(selections) if row.kept]


def _update(context: RunContext, work: Work) -> StageOutput:
    """Trains the next policy on prompt and kept self-edit."""
    policy = read_policy(context, work.inputs["policy"][0])
    examples = _examples(context, work)
    if not examples:
        raise StageError(
            f"round {work.round_index} kept no self-edit, so there is nothing to learn from: "
            "lower filter.min_gain, or sample more self-edits per problem"
        )
    with tempfile.TemporaryDirectory(dir=context.scratch) as folder:
        trained = context.trainer.update_policy(
            examples,
            to_settings(work.settings["lora"]),
            seed=derive_seed("update", policy.policy.policy_id, work.settings["seed"]),
            out=Path(folder) / "policy",
            parent_adapter=next(iter(adapter_stack(context.store, policy.policy)), None),
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


update_shard = stage_task("update", _update)


def _examples(context: RunContext, work: Work) -> list[TrainRow]:
    problems = read_problems(context.store, work.inputs["problems"], work.inputs["questions"])
    kept = set(work.settings["kept"])
    edits: list[SelfEdit] = [
        edit
        for ref in work.inputs["self_edits"]
        for edit in context.store.read(ref)
        if edit.self_edit_id in kept
    ]
    return [_example(context, problems, edit) for edit in edits]


def _example(context: RunContext, problems: dict, edit: SelfEdit) -> TrainRow:
    prompt = context.domain.edit_prompt(problems[edit.problem_id])
    return TrainRow(text=edit.text, prompt=prompt.text, chat=prompt.chat)
