"""The held-out evaluation of a policy, as a run of its own.

1. The latest policy: what its run measured is reused, and the rows stand in the new run too.
2. More self-edits per problem: the policy is kept, and only the measurement is done.
3. The base policy is measured as round 0.
4. A policy that is not there, or of another model, is refused with what to do.
5. The name of an evaluation stands for its policy: another one, or a run, is refused under it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prefect import flow
from rich.console import Console

from flows.evaluate import measure
from flows.progress import PlainProgress
from flows.views.results import held_out_results
from flows.views.standing import run_standing
from seal_core.errors import InputError
from storage.runs.policy_lookup import find_policy
from storage.sql.catalog import Catalog
from storage.store import Store
from tasks.opening.preflight import Measured, preflight
from tests.models import save_qwen2
from tests.semantics.conftest import Runner
from tests.semantics.runs import N_HELDOUT, ask
from tests.semantics.scripted import Scripted


def evaluate(run: Runner, store: Path, policy: str | None = None, **settings: Any) -> Scripted:
    """Evaluates a policy of run `a` into run `e`."""
    _, index, ref = find_policy(Store.open(str(store)), "a", policy)
    measured = Measured(policy or "the latest", index + 1)
    checked = replace(preflight(run.config(settings), "e"), evaluates=measured)
    engine, progress = Scripted(), PlainProgress(Console(quiet=True))
    flow(lambda: measure(checked, progress, ref, index, engine.open), name="test")()
    return engine


def accuracies(store: Path, run: str) -> dict[str, float | None]:
    with Catalog(Store.open(str(store), create=False)) as catalog:
        found = held_out_results(catalog, run).conditions
    return {row.condition: row.accuracy.mean for row in found}


def test_what_is_measured_already_is_reused(run: Runner, store: Path) -> None:
    """1"""
    run()
    engine = evaluate(run, store)
    assert (engine.generated, engine.trained) == ([], [])
    whole = accuracies(store, "a")
    assert accuracies(store, "e") == {k: whole[k] for k in ("no_adaptation", "round_1")}
    policies = "SELECT round, parent IS NULL FROM policies WHERE run = 'e' ORDER BY round"
    assert ask(store, policies) == [(-1, True), (0, False)]


def test_only_the_measurement_is_done(run: Runner, store: Path) -> None:
    """2"""
    run()
    engine = evaluate(run, store, heldout__edits_per_problem=2)
    assert len(engine.trained) == 2 * N_HELDOUT
    assert engine.updates == 0
    edits = "SELECT DISTINCT run, round, split, condition FROM self_edits WHERE run = 'e'"
    assert ask(store, edits) == [("e", 1, "heldout", "round_1")]


def test_the_base_policy_is_round_0(run: Runner, store: Path) -> None:
    """3"""
    run()
    ((base,),) = ask(store, "SELECT policy_id FROM policies WHERE run = 'a' AND parent IS NULL")
    evaluate(run, store, base)
    assert set(accuracies(store, "e")) == {"no_adaptation", "round_0"}
    assert ask(store, "SELECT count(*) FROM policies WHERE run = 'e'") == [(1,)]


def test_a_policy_that_does_not_fit_is_refused(run: Runner, store: Path, tmp_path: Path) -> None:
    """4"""
    run()
    with pytest.raises(InputError, match=r"run 'a' has no policy 'policy-0'; it has policy-"):
        evaluate(run, store, "policy-0")
    with pytest.raises(InputError, match=r"run 'b' has no policy .*seal status"):
        find_policy(Store.open(str(store)), "b")
    save_qwen2(tmp_path / "other", seed=1)
    with pytest.raises(InputError, match=r"made from another model .*set model\.path"):
        evaluate(run, store, model__path=tmp_path / "other")


def test_a_name_stands_for_one_policy(run: Runner, store: Path) -> None:
    """5"""
    run()
    evaluate(run, store)
    ((base,),) = ask(store, "SELECT policy_id FROM policies WHERE run = 'a' AND parent IS NULL")
    with pytest.raises(InputError, match=r"another config \(evaluates.policy: .*--name"):
        evaluate(run, store, base)
    with pytest.raises(InputError, match=r"evaluates.* -> \(not set\)"):
        run(name="e")
    standing = run_standing(Store.open(str(store)), "e")
    assert standing.left == 0 and len(standing.stages) == 5
