"""Policies as the stages see them: a row of the policies table, and the adapters to load."""

from __future__ import annotations

from dataclasses import dataclass

from seal_core.fingerprint import make_id
from seal_core.types import Policy, TableRef
from storage.store import Store
from tasks.context import RunContext


@dataclass(frozen=True)
class PolicyRef:
    """A policy, and the part that holds its row."""

    policy: Policy
    ref: TableRef


def base_row(base_model: str, model_digest: str) -> Policy:
    """A base model as the policy of round 0."""
    return Policy(
        policy_id=make_id("policy", model_digest),
        parent=None,
        base_model=base_model,
        model_digest=model_digest,
        uri=None,
        sha256=None,
        n_examples=0,
        n_steps=0,
        final_loss=None,
    )


def read_policy(context: RunContext, ref: TableRef) -> PolicyRef:
    """The one policy of a part."""
    (policy,) = context.store.read(ref)
    return PolicyRef(policy, ref)


def adapter_stack(store: Store, policy: Policy, uri: str | None = None) -> tuple[str, ...]:
    """Local folders to apply to the base model: the policy's adapter, then a self-edit's."""
    uris = [item for item in (policy.uri, uri) if item is not None]
    return tuple(str(store.adapter_folder(item)) for item in uris)
