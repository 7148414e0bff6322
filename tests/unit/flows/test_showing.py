"""What is shown of a self-edit cannot change the terminal: only its line breaks are kept."""

from __future__ import annotations

import io

from rich.console import Console

from flows.views.showing import print_explanation


def test_generated_text_stays_text() -> None:
    problem = {
        "problem_id": "problem-1",
        "run": "a",
        "title": "T\x1b[2J",
        "context": "one\ntwo\x07",
    }
    found = {"kind": "problem", "problem": problem, "questions": [], "self_edits": []}
    found["passage"] = problem["context"]
    out = io.StringIO()
    print_explanation(found, Console(file=out, width=80))
    assert "\x1b" not in out.getvalue() and "\x07" not in out.getvalue()
    assert "T\\x1b" in out.getvalue() and "  one\n  two" in out.getvalue()
