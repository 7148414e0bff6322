"""A run keeps the precision it was begun in, records its engines, and says when it mixes them.

1. `model.dtype = "auto"` is resolved before the run, bears identity, and a run that would go on in
   another precision is refused with the command that goes on in its own.
2. So is a run of a version that did not record it.
3. Every execution that uses the model has engine, version and precision in its row.
4. A run that another engine or version goes on with says so, in a note, and in `seal status`.
5. What a fork takes over counts as made by the engine that made it.
6. `--rehash` believes no remembered digest of the model's files.
7. Executions of a version with fewer columns are neither lost nor doubled.
8. A run of `auto` goes on with the precision spelled out, and the other way round.
9. A model that changed between two starts is told by file, with what to do.
10. A model that changes during a run ends it, and nothing is stored as the old one's.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app
from flows.commands.running.run import check
from seal_core.engines import GenerateRequest
from seal_core.errors import InputError, StageError
from seal_core.fingerprint import canonical_json, digest
from storage.files.json_records import read_record, write_record
from storage.store import Store
from storage.tables import encoding, schema
from storage.tables.paths import run_record
from storage.tables.store_rows import StageRow
from tasks.opening import preflight
from tests.semantics.conftest import Runner
from tests.semantics.runs import ROOT, ask
from tests.semantics.scripted import Scripted

NOW = version("transformers")


def status(store: Path, *arguments: str) -> str:
    done = CliRunner().invoke(app, ["status", "a", "--store", str(store), *arguments])
    assert done.exit_code == 0, done.output
    return done.output


def on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine has one, and the checkpoint's own precision is half."""
    monkeypatch.setattr(preflight, "used_precision", lambda *_: "bfloat16")


def test_a_run_does_not_go_on_in_another_precision(done: Runner, monkeypatch) -> None:
    on_a_gpu(monkeypatch)
    with pytest.raises(InputError, match=r"uses its model in float32.*--set model\.dtype=float32"):
        done()
    plan = done.plan()
    assert plan.refused == ['contents.precision: "float32" -> "bfloat16"']
    assert all(stage.cached == 0 for stage in plan.stages if stage.stage == "sample")


def test_the_command_that_is_told_goes_on_in_the_runs_precision(done: Runner) -> None:
    engine = done(name="b", fork="a", model__dtype="float32")
    assert (engine.generated, engine.trained, engine.updates) == ([], [], 0)


def test_who_chose_the_precision_makes_no_other_run(done: Runner) -> None:
    engine = done(model__dtype="float32")
    assert (engine.generated, engine.trained, engine.updates) == ([], [], 0)
    assert done.plan(model__dtype="float32").refused == []
    assert done.plan(model__dtype="bfloat16").refused == ['model.dtype: "auto" -> "bfloat16"']
    done(name="b", model__dtype="float32")
    done(name="b")


def test_a_model_that_changed_is_told_by_file(run: Runner, inputs: Path, tmp_path: Path) -> None:
    model = shutil.copytree(inputs / "model", tmp_path / "model")
    run(model__path=model)
    (model / "config.json").write_text((model / "config.json").read_text() + " ")
    (model / "vocab.json").write_text("{}")
    told = "files of the model: other: config.json; new: vocab.json"
    assert run.plan(model__path=model).refused == [told]
    with pytest.raises(InputError, match=rf"\({told}\): undo the change, .* --fork a"):
        run(model__path=model)


@pytest.mark.parametrize("call", ["generate", "train", "update"])
def test_a_model_that_changes_during_a_run_ends_it(
    run: Runner, store: Path, inputs: Path, tmp_path: Path, call: str
) -> None:
    model = shutil.copytree(inputs / "model", tmp_path / "model")
    weights = model / "model.safetensors"
    called: list[str] = []

    def writes(name: str, items: object) -> None:
        if name == call and not called:
            called.append(name)
            weights.write_bytes(weights.read_bytes()[:-1] + b"x")

    with pytest.raises(InputError, match=r"changed while it was in use \(other: model\.safe"):
        run(Scripted(writes), model__path=model)
    made = {"generate": "evaluate", "train": "finetune", "update": "update"}[call]
    kept = ask(store, f"SELECT count(*) FROM stages WHERE stage = '{made}' AND error IS NULL")
    assert kept == [(0,)]


def test_a_run_that_did_not_record_its_precision_is_refused(done: Runner, store: Path) -> None:
    opened = Store.open(str(store))
    record = read_record(opened.files, run_record("a"))
    config = json.loads(record["row"]["config_json"])
    del config["contents"]["precision"]
    record["row"]["config_json"] = canonical_json(config)
    record["row"]["identity"] = digest({k: v for k, v in config.items() if k != "engine"})
    write_record(opened.files, run_record("a"), record)
    with pytest.raises(InputError, match=r"did not record in which precision.*another --name"):
        done()


def test_every_execution_that_uses_the_model_says_what_computed(done: Runner, store: Path) -> None:
    found = ask(store, "SELECT DISTINCT stage, engine, engine_version, precision FROM stages")
    used = ("transformers", NOW, "float32")
    expected = {(s, *used) for s in ("sample", "finetune", "evaluate", "update")}
    assert set(found) == expected | {(s, None, None, None) for s in ("score", "filter")}
    assert f"answers by transformers {NOW} in float32" in status(store)
    plain = json.loads(status(store, "--json"))["a"]
    assert plain["mixed"] == []
    assert {use["purpose"] for use in plain["engines"]} == {"answers", "training", "updates"}


def test_a_run_that_goes_on_with_another_engine_says_so(
    run: Runner, store: Path, monkeypatch
) -> None:
    calls: list[str] = []

    def dies_late(name: str, items: object) -> None:
        calls.append(name)
        if len(calls) > 6:
            raise InputError("enough")

    with pytest.raises(InputError, match="enough"):
        run(Scripted(dies_late))
    monkeypatch.setattr(preflight, "check_serving", lambda *_: "0.32.0")
    run(engine__kind="vllm")
    assert any(
        note.startswith(f"answers so far: transformers {NOW} in float32")
        and "what is left is done by vllm 0.32.0 in float32" in note
        for note in run.notes
    )
    (mixed,) = (note for note in run.notes if note.startswith("answers mix engines: "))
    assert "vllm 0.32.0 in float32 (" in mixed and f"transformers {NOW} in float32 (" in mixed
    assert mixed in status(store).replace("\n", " ")
    assert json.loads(status(store, "--json"))["a"]["mixed"] == [mixed]
    assert f"training by transformers {NOW} in float32" in status(store)


def test_what_a_fork_takes_over_counts(done: Runner, store: Path, monkeypatch) -> None:
    monkeypatch.setattr(preflight, "check_serving", lambda *_: "0.32.0")
    done(name="b", fork="a", engine__kind="vllm", run__rounds=2)
    made = ask(store, "SELECT count(*) FROM stages WHERE run = 'b' AND engine = 'vllm'")
    assert made[0][0] > 0
    assert any(note.startswith("answers mix engines: ") for note in done.notes)
    assert not any(note.startswith("training mix") for note in done.notes)


def test_rehash_believes_no_remembered_digest(done: Runner, store: Path, inputs: Path) -> None:
    known = store / "_state" / "models.json"
    lies = {path: [*entry[:-1], "0" * 64] for path, entry in json.loads(known.read_text()).items()}
    known.write_text(json.dumps(lies))
    assert done.plan().refused
    config = done.config({})
    sets = {
        "data.path": config.data.path,
        "model.path": config.model.path,
        "sample.edits_per_problem": config.sample.edits_per_problem,
        "finetune.repeats": 1,
        "run.rounds": 1,
    }
    words = ["plan", str(ROOT / "configs/squad.toml"), "--name", "a", "--store", str(store)]
    words += [word for key, value in sets.items() for word in ("--set", f"{key}={value}")]
    refused = CliRunner().invoke(app, [*words, "--json"])
    assert json.loads(refused.output)["refused"]
    planned = json.loads(CliRunner().invoke(app, [*words, "--rehash", "--json"]).output)
    assert planned["refused"] == []
    assert all(stage["cached"] == stage["shards"] for stage in planned["stages"])
    assert str(inputs / "model" / "model.safetensors") in json.loads(known.read_text())
    check(
        str(ROOT / "configs/squad.toml"),
        "a",
        [f"execution.store={store}", *words[7::2]],
        None,
        rehash=True,
    )


def test_history_of_a_version_with_fewer_columns_is_kept_once(
    run: Runner, store: Path, monkeypatch
) -> None:
    """A failed execution, in the table as the older version wrote it, gets no second row."""

    def fails(name: str, items: list[GenerateRequest]) -> None:
        raise StageError("no answer")

    whole = schema.TABLES["stages"]
    older = replace(whole, columns=whole.columns[:-3])
    with monkeypatch.context() as patch:
        patch.setitem(schema.TABLES, "stages", older)
        patch.setattr(encoding, "CODE_VERSION", "older")
        with pytest.raises(StageError):
            run(Scripted(fails))
    before = ask(store, "SELECT count(*) FROM stages WHERE error IS NOT NULL")
    assert before[0][0] > 0
    run()
    assert ask(store, "SELECT count(*) FROM stages WHERE error IS NOT NULL") == before
    assert StageRow.__dataclass_fields__["engine"].default is None
