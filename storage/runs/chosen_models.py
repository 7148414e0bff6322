"""Finds the models that a run has to offer: its base, its policies, its self-edits' adapters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from seal_core.errors import InputError
from storage.runs.importing import is_imported
from storage.runs.policy_lookup import find_policy
from storage.runs.registry import get_run
from storage.sql.catalog import Catalog
from storage.store import Store

LAST = "last"
_ADAPTERS = """
SELECT adapter_id, self_edit_id, problem_id, policy_id, uri, sha256, error FROM adapters
WHERE run = $run AND (self_edit_id = $item OR adapter_id = $item) ORDER BY repeat, round
"""


@dataclass(frozen=True)
class ChosenModel:
    """A model of a run: its base, with adapters.

    Attributes:
        name: `base`, or the id of the policy, the self-edit or the adapter.
        policy_id: The policy that it is, or that a self-edit was trained on; None for the base.
        uris: Adapters on the base, the policy's first; see `Store.adapter_folder`.
        problem_id: What the self-edit is about; None for others.
    """

    name: str
    policy_id: str | None
    uris: tuple[str, ...]
    problem_id: str | None = None


def choose_models(
    store: Store,
    run: str,
    base: bool = False,
    policies: Sequence[str] = (),
    edits: Iterable[str] = (),
) -> list[ChosenModel]:
    """The models that are named, or else the run's last policy.

    Args:
        policies: Ids, or `last`.
        edits: Ids of self-edits, each for its first adapter, or of adapters.

    Raises:
        InputError: there is no such run or model, or its weights are not there.
    """
    if is_imported(get_run(store, run)):
        raise InputError(f"run {run!r} was imported: the store has no weights of its models")
    chosen = [ChosenModel("base", None, ())] if base else []
    edits = list(edits)
    if not (base or policies or edits):
        policies = (LAST,)
    chosen += [_policy(store, run, None if item == LAST else item) for item in policies]
    return chosen + [_edit(store, run, item) for item in edits]


def _policy(store: Store, run: str, policy_id: str | None) -> ChosenModel:
    found, _, ref = find_policy(store, run, policy_id)
    (policy,) = store.read(ref)
    return ChosenModel(found, found, (policy.uri,) if policy.uri else ())


def _edit(store: Store, run: str, item: str) -> ChosenModel:
    with Catalog(store) as catalog:
        rows = catalog.records(_ADAPTERS, run=run, item=item)
    if not rows:
        raise InputError(
            f"run {run!r} has no self-edit or adapter {item!r} that was trained: "
            "look for ids with `seal sql best_edits`"
        )
    trained = next((row for row in rows if row["uri"]), None)
    if trained is None:
        why = next((row["error"] for row in rows if row["error"]), None)
        policy = rows[0]["policy_id"]
        raise InputError(
            f"{item} was not trained: {why}"
            if why
            else f"{item} taught nothing, so that its model is the policy {policy}: use --policy"
        )
    if not store.files.exists(trained["uri"]):
        raise InputError(
            f"the weights of {item} are not in the store: they were removed by "
            "execution.keep_adapters or `seal policy prune`; another edit may have its own, see "
            "`has_weights` in `seal show --json`"
        )
    if damage := store.verify_adapter(trained["uri"], trained["sha256"]):
        raise InputError(f"the weights of {item} are damaged ({damage}): resume the run")
    policy = _policy(store, run, trained["policy_id"])
    uris = (*policy.uris, trained["uri"])
    return ChosenModel(item, trained["policy_id"], uris, trained["problem_id"])
