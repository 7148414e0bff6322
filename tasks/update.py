"""The update stage: supervised fine-tuning of the policy on the self-edits that were kept."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from seal_core.errors import StageError
from seal_core.fingerprint import derive_seed, make_id
from seal_core.stages import Handle, Place
from seal_core.types import Policy, Selection, SelfEdit, TrainRow
from tasks.basis import Basis, refs
from tasks.chatting import chat_identity
from tasks.context import RunContext
from tasks.finetune import to_settings
from tasks.lora import lora_settings
from tasks.policies import adapter_stack, read_policy
from tasks.shards import read_problems
from tasks.work import Stage, StageOutput, Work


def update_works(
    basis: Basis, problems: Handle, policy: Handle, edits: Handle, selected: Handle, at: Place
) -> list[Work]:
    """Trains the next policy, an adapter on the base that goes on from the current policy's.

    The self-edits that were kept bear identity, the rule that kept them does not: another rule
    that keeps the same ones trains nothing again.
    """
    config = basis.config
    settings = {
        "lora": lora_settings(config.update),
        "prompt": config.sample.prompt,
        "variant": config.rows.variant,
        **chat_identity(config),
        "policy": basis.policy_id(policy),
        "seed": config.run.seed,
        "kept": basis.told(refs(selected, "selections")[0], _kept),
    }
    inputs = {
        "problems": refs(problems, "problems"),
        "questions": refs(problems, "questions"),
        "self_edits": refs(edits, "self_edits"),
        "policy": refs(policy, "policies"),
    }
    return [basis.work(UPDATE, at, settings, inputs)]


def _kept(selections: Sequence[Selection]) -> list[str]:
    return [row.self_edit_id for row in selections if row.kept]


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


UPDATE = Stage("update", version=4, table="policies", uses="training", body=_update)


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
