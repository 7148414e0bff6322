"""The zoo finds what is silently wrong, and nothing that a model does ends it."""

from __future__ import annotations

import os
import re
import signal
import time

import pytest
import transformers

from seal_core.probe.verdict import Verdict
from tests.bench.edits import ROOT
from tests.bench.markdown import section
from tests.zoo import examine as examination
from tests.zoo import report
from tests.zoo.crew import run_all
from tests.zoo.examine import FAST, PLAIN, REFUSED, TRACEBACK, UNBUILT, WRONG, Row, examine
from tests.zoo.recipe import all_types
from tests.zoo.zoo import FAMILIES, faults_of

PAGE = ROOT / "docs" / "models.md"


@pytest.mark.parametrize(
    ("verdict", "fault"),
    [
        (Verdict("batched", "padded", None, ()), "answers: "),
        (Verdict("plain", "packed", None, ()), "training: "),
    ],
)
def test_a_way_that_does_not_suit_a_model_is_found_out(monkeypatch, verdict, fault) -> None:
    monkeypatch.setattr(examination, "check_model", lambda loaded: verdict)
    row = examine("mamba2")
    assert row.state == WRONG
    assert row.why.startswith(fault)


def test_a_model_that_is_right_is_right() -> None:
    row = examine("llama")
    assert (row.state, row.answers, row.training, row.why) == (FAST, "batched", "packed", "")
    assert set(row.deviations) == {"answers", "scores", "training", "plain training"}
    assert max(row.deviations.values()) < 1e-4


def _call(kind: str) -> str:
    if kind == "hang":
        time.sleep(60)
    if kind == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if kind == "error":
        raise RuntimeError("a shape\nthat does not fit")
    return kind


def test_a_hang_a_crash_and_an_error_are_results() -> None:
    calls = [(kind, (kind,)) for kind in ("hang", "crash", "error", "answer")]
    found = dict(run_all(_call, calls, seconds=8, memory=8 << 30, jobs=2))
    assert {name: one.error for name, one in found.items()} == {
        "hang": "it took longer than 8 s",
        "crash": "its process was ended by SIGSEGV",
        "error": "RuntimeError: a shape",
        "answer": None,
    }
    assert found["answer"].value == "answer"


def test_what_makes_the_run_fail_is_named() -> None:
    rows = [
        Row("llama", PLAIN, why="too slow"),
        Row("mamba2", PLAIN),
        Row("mixtral", FAST),
        Row("gpt2", REFUSED, why="no cache"),
        Row("ctrl", REFUSED),
        Row("opt", WRONG, why="answers differ"),
        Row("xlm", TRACEBACK, why="KeyError: 1"),
    ]
    assert sorted(faults_of(rows)) == [
        "gpt2: refused, and fast is expected: no cache",
        "llama: plain, and fast is expected: too slow",
        "opt: WRONG: answers differ",
        "xlm: TRACEBACK: KeyError: 1",
    ]
    assert faults_of([Row(f"new-{i}", UNBUILT) for i in range(25)]) == []
    assert faults_of([Row(f"new-{i}", UNBUILT) for i in range(26)]) == [
        "26 types were not built, at most 25 may be"
    ]


def test_the_table_is_written_between_its_markers(tmp_path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Page\n\n<!-- zoo:begin -->\nold\n<!-- zoo:end -->\n\nEnd.\n")
    report.write(
        page,
        [
            Row("llama", FAST, "batched", "packed"),
            Row("odd", REFUSED, why="a | b"),
            Row("new", UNBUILT, why="no config"),
        ],
    )
    text = page.read_text()
    assert text.startswith("# Page\n\n<!-- zoo:begin -->\n\n3 types: 1 fast, 0 plain, 1 refused,")
    assert f"transformers {transformers.__version__}" in text
    assert "| `llama` | fast | batched | packed |  |" in text
    assert "| `odd` | refused |  |  | a \\| b |" in text
    assert "| `new` | no config |" in text
    assert text.endswith("<!-- zoo:end -->\n\nEnd.\n") and "old" not in text


def test_the_table_has_every_type_of_its_release() -> None:
    table = section(PAGE.read_text(), report.NAME)
    release = re.search(r"transformers ([\d.]+)", table)
    assert release is not None, "make test-zoo writes the table"
    assert "0 silently wrong, 0 tracebacks" in table
    listed = re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)
    assert set(FAMILIES) <= set(listed)
    if release[1] == transformers.__version__:
        assert sorted(listed) == all_types()
