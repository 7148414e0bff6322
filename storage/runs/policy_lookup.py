"""Finds the policies that a run has made."""

from __future__ import annotations

from seal_core.errors import InputError
from seal_core.types import TableRef
from storage.store import Store
from storage.tables.paths import check_run, partition_of


def find_policy(store: Store, run: str, policy_id: str | None = None) -> tuple[str, int, TableRef]:
    """A policy of a run, by default its latest: id, the round that made it, and its part.

    The base model is a policy too, of round -1.

    Raises:
        InputError: the run, or the policy in it, is not there, or its adapter is damaged.
    """
    found = []
    for ref in store.refs("policies", check_run(run)):
        (policy,) = store.read(ref)
        found.append((policy.policy_id, partition_of(ref.path).round_index, ref))
    found.sort(key=lambda item: item[1])
    if not found:
        raise InputError(f"run {run!r} has no policy in the store {store.root}: see `seal status`")
    if policy_id is None:
        chosen = found[-1]
    else:
        by_id = {item[0]: item for item in found}
        if policy_id not in by_id:
            raise InputError(f"run {run!r} has no policy {policy_id!r}; it has {', '.join(by_id)}")
        chosen = by_id[policy_id]
    if damage := store.verify(chosen[2]):
        raise InputError(f"policy {chosen[0]} of run {run!r} is damaged ({damage}): resume the run")
    return chosen
