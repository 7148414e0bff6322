"""The held-out evaluation of one policy of a run, into a run of its own. Order only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from prefect import flow

from flows.loading import load_config, with_store
from flows.prefect_server.worker import watch_worker
from flows.seal import heldout_evaluation
from flows.views.artifacts import reported
from flows.views.results import held_out_results, number, span
from seal_core.types import TableRef
from storage.runs.policy_lookup import find_policy
from storage.sql.catalog import Catalog
from storage.store import Store
from tasks.context import Progress
from tasks.opening.open_run import OpenEngines, engine_processes, open_run
from tasks.opening.preflight import Measured, Preflight, preflight
from tasks.running.count import Count


@flow(name="seal-evaluate", log_prints=True)
def evaluate_policy(
    config: str,
    run: str,
    policy: str | None = None,
    name: str | None = None,
    overrides: Sequence[str] = (),
    rehash: bool = False,
) -> str:
    """Measures a policy on the config's held-out problems; returns the name of the new run.

    Args:
        config: Path of a TOML file; its data may be other than that of `run`.
        run: The run that made the policy.
        policy: Id of the policy; the latest of `run` by default.
        name: Run whose partition the rows go to; default is `RUN-eval-POLICY`.
        overrides: Settings as `section.key=value`.
        rehash: Hash the model's files whatever is remembered of them.
    """
    watch_worker()
    loaded = load_config(config, with_store(overrides))
    store = Store.open(loaded.execution.store, create=False)
    policy_id, round_index, ref = find_policy(store, run, policy)
    default = f"{run}-eval-{policy_id.removeprefix('policy-')[:12]}"
    checked = replace(
        preflight(loaded, name or default, rehash), evaluates=Measured(policy_id, round_index + 1)
    )
    with reported(checked.name, loaded.execution.store) as progress:
        measure(checked, progress, ref, round_index)
    print_accuracy(store, checked.name, policy_id)
    return checked.name


def measure(
    checked: Preflight,
    progress: Progress,
    ref: TableRef,
    round_index: int,
    open_engines: OpenEngines = engine_processes,
) -> None:
    """Baseline and self-edits of the policy on the held-out problems, inside a flow run.

    Args:
        ref: The policy's part.
        round_index: The round that made it; it is measured as the policy of the next one.
    """
    with open_run(checked, progress, open_engines) as run:
        count = Count(run.splits)
        heldout_evaluation(count, checked.config, count.base_policy(), round_index + 1)
        progress.expect(count.by_stage)
        policy = run.adopt_policy(ref, round_index)
        heldout_evaluation(run, checked.config, policy, round_index + 1)


def print_accuracy(store: Store, run: str, policy_id: str) -> None:
    """One line per condition of the held-out table."""
    with Catalog(store) as catalog:
        results = held_out_results(catalog, run)
    print(f"Held-out accuracy of {policy_id}, run {run}")
    for row in results.conditions:
        accuracy = row.accuracy
        print(f"{row.condition}: {number(accuracy.mean)} {span(accuracy)}, n = {accuracy.n}")
