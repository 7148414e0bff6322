"""What becomes of a run whose model only shows once it is loaded that it cannot be used.

1. A new run is refused before anything of it is recorded; its name is free for a corrected config.
2. So is a fork; the run that it forks stays as it is.
3. An engine that dies over the model is no verdict: the run begins, and its stages try again.
4. A run that exists goes on without the model being tried: what is cached needs none.
5. A model that is known to be sound is not loaded to try it; one that was refused is tried again.
6. A plan tells what is remembered of the model, or that it was not tried.
"""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from flows.planning import print_plan
from seal_core.errors import EngineError, InputError
from seal_core.models.files.model_digest import digest_model
from seal_core.probe.verdict import Verdict
from seal_core.probe.verdict_files import (
    circumstances,
    processor,
    recorded_verdict,
    remember,
    write_verdict,
)
from storage.runs.registry import list_runs
from storage.runs.status import verdict_folder, verdict_path
from storage.store import Store
from tests.semantics.scripted import Scripted

SOUND = Verdict("batched", "packed", None, ())
REFUSED = Verdict("plain", "plain", "it looks ahead", ())


class Engine(Scripted):
    """Scripted engines; trying the model raises `error`, if there is one."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self._error = error

    def try_model(self) -> None:
        super().try_model()
        if self._error is not None:
            raise self._error


def names(store: Path) -> list[str]:
    return [row.run for row in list_runs(Store.open(str(store)))]


def parts(store: Path) -> list[Path]:
    return sorted(store.rglob("*.parquet"))


def known(
    store: Path, model: Path, verdict: Verdict, dtype: str = "float32", where: str | None = None
) -> None:
    """Remembers a verdict as an engine would; `where` is the processor, by default this one."""
    found = circumstances(
        model_digest=digest_model(str(model)).digest,
        targets=["all-linear"],
        fill=False,
        dtype=dtype,
        processor=processor() if where is None else where,
    )
    folder = verdict_folder(Store.open(str(store)).state_root)
    remember(folder, "model", {**found, "device": "cpu"}, verdict)


def test_the_name_of_a_refused_run_is_free(run, store) -> None:
    """1"""
    refused = Engine(InputError("refused"))
    with pytest.raises(InputError, match="refused"):
        run(refused, finetune__targets='["q_proj"]')
    assert refused.tried == 1 and refused.generated == []
    assert names(store) == [] and parts(store) == []
    engine = run(Engine())
    assert engine.tried == 1 and engine.trained and names(store) == ["a"]


def test_so_is_that_of_a_refused_fork(done, store) -> None:
    """2"""
    before = parts(store)
    with pytest.raises(InputError, match="refused"):
        done(Engine(InputError("refused")), "b", fork="a", finetune__targets='["q_proj"]')
    assert names(store) == ["a"] and parts(store) == before
    assert done(Engine(), "b", fork="a", run__rounds=2).updates == 1
    assert names(store) == ["a", "b"]


def test_a_dead_engine_is_no_verdict(run, store) -> None:
    """3"""
    engine = run(Engine(EngineError("killed from outside\nits log")))
    assert engine.tried == 1 and engine.trained and names(store) == ["a"]
    assert run.notes == ["the model could not be tried before the first stage: killed from outside"]


def test_a_run_that_exists_is_not_tried(done) -> None:
    """4"""
    again = done(Engine(InputError("refused")))
    assert again.tried == 0 and again.generated == []


@pytest.mark.parametrize(
    ("verdict", "dtype", "where", "tried"),
    [
        (SOUND, "float32", None, 0),
        (SOUND, "bfloat16", None, 1),
        (SOUND, "float32", "", 1),  # On a GPU.
        (REFUSED, "float32", None, 1),
    ],
)
def test_what_is_known_is_not_tried(run, inputs, store, verdict, dtype, where, tried) -> None:
    """5"""
    known(store, inputs / "model", verdict, dtype, where)
    assert run(Engine()).tried == tried


def test_nothing_is_left_of_a_refusal(done, store) -> None:
    """1"""
    record = verdict_path(Store.open(str(store)), "b")

    class Recording(Engine):
        def try_model(self) -> None:
            write_verdict(record, "model", {"dtype": "float32", "device": "cpu"}, REFUSED)
            super().try_model()

    with pytest.raises(InputError, match="refused"):
        done(Recording(InputError("refused")), "b", finetune__targets='["q_proj"]')
    assert recorded_verdict(record) is None
    assert done(Engine(), "b").trained == [] and done.notes == []


@pytest.mark.parametrize(
    ("verdict", "line"),
    [
        (None, "was not tried yet: `seal run` tries it before"),
        (SOUND, ""),
        (REFUSED, "`seal run` refuses the model"),
    ],
)
def test_a_plan_tells_what_is_known(run, inputs, store, verdict, line) -> None:
    """6"""
    if verdict is not None:
        known(store, inputs / "model", verdict)
    plan = run.plan()
    assert plan.model_verdict == (verdict and str(verdict))
    assert plan.model_refused == (verdict and verdict.refused)
    out = io.StringIO()
    print_plan(plan, Console(file=out, width=400))
    assert line in out.getvalue() and ("model" in out.getvalue()) == bool(line)
    assert plan.model_check == f"seal model check {inputs / 'model'}"


def test_a_plan_of_what_is_done_says_nothing_of_the_model(done, inputs, store) -> None:
    """6"""
    known(store, inputs / "model", REFUSED)
    out = io.StringIO()
    print_plan(done.plan(), Console(file=out, width=400))
    assert "0 of" in out.getvalue() and "model" not in out.getvalue()
    other = done.plan(model__dtype="bfloat16", finetune__targets="['v_proj','q_proj']")
    assert other.model_check.endswith("--target q_proj --target v_proj --dtype bfloat16")
