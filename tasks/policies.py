"""Policies as the stages see them: a row of the policies table, and the adapters to load."""

from __future__ import annotations

from dataclasses import dataclass

from seal_core.errors import InputError
from seal_core.fingerprint import make_id
from seal_core.types import CONTROL_ROUND, Policy, TableRef
from storage.store import Store
from tasks.context import RunContext, current
from tasks.planning import is_pending, pending_policy


@dataclass(frozen=True)
class PolicyRef:
    """A policy, and the part that holds its row."""

    policy: Policy
    ref: TableRef

    @property
    def inputs(self) -> dict[str, list[TableRef]]:
        """The ref by role, as the stages take it."""
        return {"policy": [self.ref]}


def base_policy() -> PolicyRef:
    """The run's base model as the policy of round 0; writes its row if it is new."""
    context = current()
    policy = Policy(
        policy_id=make_id("policy", context.model_digest),
        parent=None,
        base_model=context.config.model.path,
        model_digest=context.model_digest,
        uri=None,
        sha256=None,
        n_examples=0,
        n_steps=0,
        final_loss=None,
    )
    ref = context.put_part(
        "policies",
        [policy],
        round_index=CONTROL_ROUND,
        slot="base policy",
    )
    return PolicyRef(policy, ref)


def adopt_policy(ref: TableRef, round_index: int) -> PolicyRef:
    """A policy of another run as one of the current run, in whose partition it is linked.

    Raises:
        InputError: it was made from another base model.
    """
    context = current()
    found = read_policy(context, ref)
    if found.policy.model_digest != context.model_digest:
        raise InputError(
            f"policy {found.policy.policy_id} was made from another model "
            f"({found.policy.base_model}) than {context.config.model.path!r}: set model.path"
        )
    base = round_index == CONTROL_ROUND
    slot = "base policy" if base else f"policy {found.policy.policy_id}"
    return PolicyRef(found.policy, context.store.adopt(ref, context.name, round_index, slot))


def read_policy(context: RunContext, ref: TableRef) -> PolicyRef:
    """The one policy of a part."""
    if is_pending(ref):
        return PolicyRef(pending_policy(ref), ref)
    (policy,) = context.store.read(ref)
    return PolicyRef(policy, ref)


def adapter_stack(store: Store, policy: Policy, uri: str | None = None) -> tuple[str, ...]:
    """Local folders to apply to the base model: the policy's adapter, then a self-edit's."""
    uris = [item for item in (policy.uri, uri) if item is not None]
    return tuple(str(store.adapter_folder(item)) for item in uris)
