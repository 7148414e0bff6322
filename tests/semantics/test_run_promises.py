"""What a run promises, with scripted engines on a real Prefect server and a real store.

 1. Every table holds exactly the rows that the config implies.
 2. Rewards follow from the answers; the best of each problem is kept, ties to the earlier sample.
 3. The same run again calls no engine and changes no file.
 4. A deleted, a truncated and a bit-flipped part are each found, and rebuilt alone.
 5. A damaged adapter is found, and its shard trained again.
 6. A unit that fails is a row with an error: no verdict, no score, never a wrong answer.
 7. A dead engine is tried again, and leaves no trace in the results.
 8. An engine that stays dead stops the run; the same command repeats only what was not done.
 9. Another filter rule under another name samples and trains nothing again in round 0, and the
    new run's partition is whole.
10. Another config under a used name is refused, with the field that differs.
11. Too many failed units stop the run; only their shards run again on resume.
12. When no self-edit is kept, the error says what to change.
13. The matched control trains at least as many steps and tokens as the last round's edits.
14. A cached record that is not JSON is refused, and its shard runs again.
15. Data that changed under the same path is refused under the same run name.
16. Where there is nothing to match, the matched control has no adapter.
17. A crossed control has the self-edits of one policy, and is trained on the other.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from flows.loading import load_config
from flows.seal import restem
from flows.views.results import held_out_results
from flows.views.standing import run_standing
from seal_core.errors import EngineError, InputError, StageError
from storage.files.json_records import read_record, write_record
from storage.files.local import LocalFiles
from storage.sql.catalog import Catalog
from storage.store import Store
from tasks.running.count import Count
from tests.long import first_of
from tests.semantics.runs import N_HELDOUT, N_TRAIN, ROOT, K, ask, method_tables, snapshot
from tests.semantics.scripted import Scripted


def test_tables_hold_exactly_the_rows_of_the_config(run: Any, store: Path) -> None:
    """1, 2, 13"""
    run()
    counts = {
        "problems": N_TRAIN + N_HELDOUT,
        "questions": N_TRAIN + N_HELDOUT,
        "self_edits": N_TRAIN * K + 4 * N_HELDOUT,
        "adapters": N_TRAIN * K + 4 * N_HELDOUT,
        "answers": N_TRAIN * (K + 1) + 6 * N_HELDOUT,
        "scores": N_TRAIN * K + 4 * N_HELDOUT,
        "selections": N_TRAIN * K,
        "policies": 2,
        "runs": 1,
    }
    assert {t: ask(store, f"SELECT count(*) FROM {t}")[0][0] for t in counts} == counts
    useful = "SELECT gain = 1.0 FROM scores JOIN self_edits USING (run, round, self_edit_id)"
    assert all(row[0] for row in ask(store, f"{useful} WHERE text LIKE 'FACT%'"))
    kept = ask(
        store,
        """SELECT problem_id, min(sample_index) FILTER (text LIKE 'FACT%'),
        any_value(sample_index) FILTER (kept) FROM self_edits
        JOIN selections USING (run, round, self_edit_id, problem_id) GROUP BY ALL""",
    )
    assert len(kept) == N_TRAIN
    assert all(chosen == (0 if best is None else best) for _, best, chosen in kept)
    matched = ask(
        store,
        """SELECT m.n_steps >= t.n_steps AND m.n_tokens >= t.n_tokens
        FROM adapters m JOIN adapters t USING (problem_id)
        WHERE m.condition = 'input_only_matched' AND t.condition = 'round_1'""",
    )
    assert matched == [(True,)] * N_HELDOUT
    with Catalog(Store.open(str(store), create=False)) as catalog:
        report = held_out_results(catalog, "a")
    stages = dict(ask(store, "SELECT stage, count(*) FROM stages GROUP BY stage"))
    config = load_config(ROOT / "configs/squad.toml", ["run.rounds=1"])
    count = Count({"train": N_TRAIN // 2, "heldout": N_HELDOUT // 2})
    restem(count, config)
    assert stages == count.by_stage
    names = [row.condition for row in report.conditions]
    assert names == [
        "no_adaptation",
        "input_only",
        "input_only_matched",
        "round_0",
        "round_1",
        "in_context",
    ]


def test_the_same_run_again_does_nothing(run: Any, store: Path) -> None:
    """3"""
    first = run()
    before = snapshot(store)
    again = run()
    assert first.updates == 1
    assert (again.generated, again.trained, again.updates) == ([], [], 0)
    assert snapshot(store) == before


@pytest.mark.parametrize("damage", first_of("flip", "delete", "truncate"))
def test_a_damaged_part_is_rebuilt_alone(run: Any, store: Path, damage: str) -> None:
    """4"""
    run()
    before = method_tables(store)
    part = sorted(store.glob("self_edits/run=a/round=0/*.parquet"))[0]
    data = part.read_bytes()
    if damage == "delete":
        part.unlink()
    else:
        part.write_bytes(data[:-9] if damage == "truncate" else bytes([data[0] ^ 1]) + data[1:])
    again = run()
    assert again.trained == []
    assert 0 < len(again.generated) <= 2 * K
    assert method_tables(store) == before


def test_a_damaged_adapter_is_trained_again(run: Any, store: Path) -> None:
    """5"""
    run()
    before = method_tables(store)
    weights = sorted(store.rglob("adapter_model.safetensors"))[0]
    weights.write_bytes(weights.read_bytes()[:-1])
    again = run()
    assert again.trained or again.updates
    assert len(again.trained) <= 2 * K
    assert method_tables(store) == before


def test_a_failed_unit_is_never_a_wrong_answer(run: Any, store: Path) -> None:
    """6"""
    run(Scripted(fails="P0 "), execution__max_error_share=0.9)
    lost = ask(
        store,
        """SELECT a.correct, a.text, s.reward, s.gain, s.n_errors
        FROM adapters d JOIN answers a USING (run, round, adapter_id)
        JOIN scores s ON s.self_edit_id = d.self_edit_id WHERE d.error IS NOT NULL""",
    )
    assert lost
    assert set(lost) == {(None, None, None, None, 1)}


def test_a_dead_engine_is_tried_again(run: Any, store: Path, tmp_path: Path) -> None:
    """7"""
    deaths = iter([True])

    def die_once(name: str, items: Sequence[Any]) -> None:
        if name == "train" and next(deaths, False):
            raise EngineError("the engine was killed")

    run(Scripted(die_once), execution__shard_retries=1)
    failed = ask(store, "SELECT stage, attempt, error FROM stages WHERE error IS NOT NULL")
    assert [(row[0], row[1]) for row in failed] == [("finetune", 1)]
    assert "the engine was killed" in failed[0][2]
    before = method_tables(store)
    store.rename(tmp_path / "other")
    run()
    assert method_tables(store) == before


def test_a_stopped_run_repeats_only_what_was_not_done(run: Any, store: Path) -> None:
    """8"""

    def die_in_evaluation(name: str, items: Sequence[Any]) -> None:
        if name == "generate" and any("Question:" in item.prompt for item in items):
            raise EngineError("out of memory")

    broken = Scripted(die_in_evaluation)
    with pytest.raises(StageError, match=r"evaluate baseline, shard 0: .*out of memory"):
        run(broken)
    rest = run()
    assert not set(broken.generated) & set(rest.generated)
    assert not set(broken.trained) & set(rest.trained)


def test_a_fork_reuses_what_it_can_and_is_whole(run: Any, store: Path) -> None:
    """9"""
    run()
    fork = run(name="b", selection__keep_fraction=0.5)
    assert fork.updates == 1
    rounds = ask(
        store, "SELECT count(*) FROM stages WHERE run = 'b' AND stage = 'sample' AND round = 0"
    )
    assert rounds == [(0,)]
    for table in ("self_edits", "adapters", "answers", "scores", "problems"):
        both = ask(store, f"SELECT count(*) FROM {table} WHERE round = 0 GROUP BY run")
        assert len(set(both)) <= 1, table
    kept = ask(store, "SELECT run, count(*) FROM selections WHERE kept GROUP BY run ORDER BY run")
    assert kept == [("a", N_TRAIN), ("b", N_TRAIN // 2)]


def test_a_used_name_with_another_config_is_refused(run: Any, store: Path) -> None:
    """10"""
    run()
    before = snapshot(store)
    with pytest.raises(InputError, match=r"finetune\.lr: 0\.001 -> 0\.5.*--name"):
        run(finetune__lr=0.5)
    assert snapshot(store) == before


def test_data_that_changed_under_the_same_path_is_refused(
    run: Any, store: Path, tmp_path: Path, inputs: Path
) -> None:
    """15"""
    data = tmp_path / "mine.json"
    problems = json.loads((inputs / "data.json").read_text())
    data.write_text(json.dumps(problems))
    run(data__path=data)
    before = snapshot(store)
    data.write_text(json.dumps(problems[1:]))
    with pytest.raises(InputError, match=r"contents\.train: .*--name"):
        run(data__path=data)
    assert snapshot(store) == before


def test_the_matched_control_is_never_an_unmatched_one(run: Any, store: Path) -> None:
    """16"""

    run(Scripted(fails="P6 "), execution__max_error_share=1.0, execution__shard_size=1)
    rows = ask(
        store,
        """SELECT t.error IS NULL, m.error IS NULL FROM adapters t
        JOIN adapters m USING (problem_id)
        WHERE t.condition = 'round_1' AND m.condition = 'input_only_matched'""",
    )
    assert sorted(rows) == [(False, False), (True, True)]


def test_a_crossed_control_has_one_policys_edits_on_another(run: Any, store: Path) -> None:
    """17"""
    run(run__rounds=2, heldout__crossed="true")
    crossed = ask(
        store,
        """SELECT c.condition, e.condition, e.policy_id = c.policy_id, count(*)
        FROM self_edits c JOIN self_edits e USING (run, problem_id, sample_index, text, split)
        WHERE c.condition IN ('last_edits_on_base', 'base_edits_on_last')
        AND e.condition = if(c.condition = 'last_edits_on_base', 'round_2', 'round_0')
        GROUP BY ALL ORDER BY ALL""",
    )
    assert crossed == [
        ("base_edits_on_last", "round_0", True, N_HELDOUT),
        ("last_edits_on_base", "round_2", True, N_HELDOUT),
    ]
    trained = "SELECT DISTINCT condition, policy_id FROM {} WHERE split = 'heldout'"
    for table in ("adapters", "answers"):
        policies = dict(ask(store, f"{trained.format(table)} AND adapter_id IS NOT NULL"))
        assert policies["last_edits_on_base"] == policies["round_0"] != policies["round_2"]
        assert policies["base_edits_on_last"] == policies["round_2"]
    with Catalog(Store.open(str(store), create=False)) as catalog:
        pairs = {(a, b) for a, b, _ in held_out_results(catalog, "a").paired}
    assert pairs >= {
        ("last_edits_on_base", "round_0"),
        ("round_2", "last_edits_on_base"),
        ("base_edits_on_last", "round_0"),
        ("round_2", "base_edits_on_last"),
    }


def test_too_many_failed_units_stop_the_run(run: Any, store: Path) -> None:
    """11"""
    with pytest.raises(StageError, match="max_error_share"):
        run(Scripted(fails="P6 "), execution__max_error_share=0.1)
    done = len(list(store.glob("adapters/run=a/**/*.parquet")))
    assert done == 1
    standing = run_standing(Store.open(str(store)), "a")
    left = {stage.label: stage.left for stage in standing.stages}
    assert left["finetune heldout round_0"] == 1
    rest = run(execution__max_error_share=0.1)
    assert run.notes == []
    assert len(rest.trained) == N_TRAIN * K + 4 * N_HELDOUT


def test_no_kept_edit_says_what_to_change(run: Any) -> None:
    """12"""
    with pytest.raises(StageError, match=r"kept no self-edit.*selection\.min_gain"):
        run(selection__min_gain=1.0)


def test_a_record_that_is_not_json_is_refused(run: Any, store: Path) -> None:
    """14"""
    run()
    before = method_tables(store)
    record = next((store / "_results").iterdir())
    files = LocalFiles(store)
    value = read_record(files, f"_results/{record.name}")
    write_record(files, f"_results/{record.name}", value | {"serializer": "pickle"})
    run()
    assert read_record(files, f"_results/{record.name}").keys() == {"results"}
    assert method_tables(store) == before
