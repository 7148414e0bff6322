"""Generated text stays text in the report: it can neither run nor hide anything."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from flows.report.page import report_page
from storage.runs.registry import register_run
from storage.sql.catalog import Catalog
from storage.store import Store
from tests.unit.storage.rows import ANSWER, EDIT, PICK, PROBLEM, QUESTION, SCORE, put

BAD = "</pre><script>alert(1)</script>\x1b[2J"


def test_generated_text_stays_text(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "store"))
    register_run(store, "r", {"run": {"seed": 0}}, 5)
    put(store, "problems", [replace(PROBLEM, context=BAD, title=BAD)], -1)
    put(store, "questions", [replace(QUESTION, prompt=BAD, gold=(BAD,))], -1)
    put(store, "self_edits", [replace(EDIT, self_edit_id="edit-0", text=BAD)])
    put(store, "scores", [replace(SCORE, self_edit_id="edit-0")])
    put(store, "selections", [replace(PICK, self_edit_id="edit-0")])
    held_out = replace(ANSWER, answer_id="a1", split="heldout", text=BAD)
    put(store, "answers", [replace(ANSWER, self_edit_id="edit-0", text=BAD), held_out])
    with Catalog(store) as catalog:
        page = report_page(catalog, ["r"])
    assert "alert(1)" in page and "<script" not in page and "\x1b" not in page
    assert page.count("edit-0: gain") == 2  # Of the best and of the worst.
