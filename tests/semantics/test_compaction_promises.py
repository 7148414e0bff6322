"""What compaction promises about runs, with scripted engines.

1. A finished run that was compacted executes nothing and writes nothing when it is started again;
   its tables, plan, results and standing are as before.
2. Forks of it take over its work: another filter rule, and more rounds.
3. A run that was ended in the middle goes on after its rounds were compacted.
4. Damage to a compacted file is named; the shards in it, and only those, run again. Damage to the
   manifest is named, and nothing runs again.
5. A damaged adapter of a compacted run is trained again.
6. Work done again with other bits replaces the rows in the compact file.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from flows.views.results import held_out_results
from flows.views.standing import run_standing
from seal_core.errors import EngineError, StageError
from storage.runs.compaction import compact
from storage.sql.catalog import Catalog
from storage.store import Store
from tests.semantics.conftest import Runner
from tests.semantics.runs import N_TRAIN, K, ask
from tests.semantics.scripted import Scripted

TABLES = (
    "problems", "questions", "self_edits", "adapters", "answers", "scores", "selections",
    "policies",
)  # fmt: skip


@pytest.fixture(scope="module")
def finished(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of a run to the end, of two rounds."""
    folder = tmp_path_factory.mktemp("finished") / "store"
    Runner(inputs, folder)(run__rounds=2)
    return folder


@pytest.fixture
def done(run: Runner, finished: Path, store: Path) -> Runner:
    """The same, in a copy of the store."""
    shutil.copytree(finished, store)
    return run


def compacted(store: Path) -> int:
    return len(compact(Store.open(str(store)), "a"))


def rows(store: Path, run: str = "a") -> dict[str, list[Any]]:
    return {
        name: sorted(ask(store, f"SELECT * EXCLUDE (run) FROM {name} WHERE run = '{run}'"), key=str)
        for name in TABLES
    }


def files_of(store: Path) -> dict[str, bytes]:
    skipped = ("_logs", "_locks", "_prefect", "_state")
    paths = {p.relative_to(store).as_posix(): p for p in store.rglob("*") if p.is_file()}
    return {k: p.read_bytes() for k, p in paths.items() if not k.startswith(skipped)}


def idle(engine: Scripted) -> bool:
    return (engine.generated, engine.trained, engine.updates) == ([], [], 0)


def test_a_compacted_run_is_finished(done: Runner, store: Path) -> None:
    """1"""
    opened = Store.open(str(store))
    before, standing = rows(store), run_standing(opened, "a")
    with Catalog(opened) as catalog:
        results = held_out_results(catalog, "a")
    assert compacted(store) > 10
    files = files_of(store)
    assert rows(store) == before and run_standing(Store.open(str(store)), "a") == standing
    with Catalog(opened) as catalog:
        assert held_out_results(catalog, "a") == results
    plan = done.plan(run__rounds=2)
    assert all(stage.cached == stage.shards for stage in plan.stages)
    assert idle(done(run__rounds=2)) and done.notes == []
    assert files_of(store) == files and compacted(store) == 0


def test_forks_take_over_compacted_work(done: Runner, store: Path) -> None:
    """2"""
    compacted(store)
    before = rows(store)
    longer = done(name="longer", fork="a", run__rounds=3)
    assert longer.updates == 1 and len(longer.trained) < 2 * N_TRAIN * K
    other = done(name="other", fork="a", run__rounds=2, selection__keep_fraction=0.5)
    assert not {r[0] for r in ask(
        store, "SELECT stage FROM stages WHERE run = 'other' AND round = 0"
    )} & {"sample", "finetune", "evaluate", "score"}  # fmt: skip
    assert other.updates == 2 and rows(store) == before
    for name in ("longer", "other"):
        own = rows(store, name)
        for table in ("problems", "questions"):
            assert own[table] == before[table]
        compact(Store.open(str(store)), name)
        assert rows(store, name) == own
    assert idle(done(name="longer", fork="a", run__rounds=3)) and done.notes == []


def test_a_run_goes_on_after_a_compaction_in_the_middle(run: Runner, store: Path) -> None:
    """3"""

    def dies(name: str, items: Any) -> None:
        if name == "update":
            raise EngineError("out of memory")

    with pytest.raises(StageError):
        run(Scripted(dies), run__rounds=2)
    n_executed = ask(store, "SELECT count(*) FROM stages WHERE error IS NULL")
    assert compacted(store) > 5
    rest = run(run__rounds=2)
    assert rest.updates == 2
    (total,) = ask(
        store, "SELECT count(*), count(DISTINCT identity) FROM stages WHERE error IS NULL"
    )
    assert total[0] == total[1] and total[0] > n_executed[0][0]
    expected = rows(store)
    assert compacted(store) > 5 and rows(store) == expected
    store.rename(store.with_name("interrupted"))
    run(run__rounds=2)
    assert rows(store) == expected


@pytest.mark.parametrize(
    ("table", "what"),
    [
        ("self_edits", "flip"),
        pytest.param("adapters", "delete", marks=pytest.mark.long),
        pytest.param("answers", "truncate", marks=pytest.mark.long),
        pytest.param("scores", "manifest", marks=pytest.mark.long),
        pytest.param("problems", "flip", marks=pytest.mark.long),
        ("stages", "flip"),
        pytest.param("stages", "delete", marks=pytest.mark.long),
    ],
)
def test_damage_to_a_compact_file(done: Runner, store: Path, table: str, what: str) -> None:
    """4"""
    before = rows(store)
    stages = ask(store, "SELECT count(*) FROM stages")
    compacted(store)
    found = sorted(store.glob(f"{table}/run=a/round=*/part-compact-*.parquet"))
    damaged = store / "_manifests/a.json" if what == "manifest" else found[0]
    data = damaged.read_bytes()
    half = len(data) // 2
    if what == "delete":
        damaged.unlink()
    elif what == "truncate":
        damaged.write_bytes(data[:half])
    else:
        damaged.write_bytes(data[:half] + bytes([data[half] ^ 8]) + data[half + 1 :])
    again = done(run__rounds=2)
    assert any(damaged.name in note and "again" in note for note in done.notes)
    assert rows(store) == before and again.updates == 0
    if table in ("problems", "stages") or what == "manifest":
        assert idle(again)
    if table == "stages":
        assert ask(store, "SELECT count(*) FROM stages") == stages
    assert idle(done(run__rounds=2)) and done.notes == []
    compacted(store)
    assert rows(store) == before


def test_a_damaged_adapter_of_a_compacted_run(done: Runner, store: Path) -> None:
    """5"""
    before = rows(store)
    compacted(store)
    weights = sorted(store.rglob("adapter_model.safetensors"))[0]
    weights.write_bytes(weights.read_bytes()[:-1])
    again = done(run__rounds=2)
    assert 0 < len(again.trained) + again.updates <= 2 * K
    assert rows(store) == before and compacted(store) <= 4
    assert idle(done(run__rounds=2))


class Otherwise(Scripted):
    """Answers with other log-probabilities, as another machine might."""

    def generate(self, requests: Any, progress: object = None) -> Any:
        found = super().generate(requests)
        return [type(g)(**{**vars_of(g), "logprob": -2.0}) for g in found]


def vars_of(item: Any) -> dict[str, Any]:
    return {name: getattr(item, name) for name in type(item).__dataclass_fields__}


def test_other_bits_replace_compacted_rows(done: Runner, store: Path) -> None:
    """6"""
    counts = {name: len(found) for name, found in rows(store).items()}
    compacted(store)
    for record in sorted((store / "_results").iterdir())[::2]:
        record.unlink()
    again = done(Otherwise(), run__rounds=2)
    assert again.generated
    assert {name: len(found) for name, found in rows(store).items()} == counts
    assert (
        ask(store, "SELECT count(*), count(DISTINCT (run, round, answer_id)) FROM answers")[0][0]
        == counts["answers"]
    )
    assert ask(store, "SELECT count(*) FROM answers WHERE logprob = -2.0") != [(0,)]
    assert idle(done(run__rounds=2))
