"""Rows: what the paper trains on, line by line, and the published number of rows."""

from __future__ import annotations

import dataclasses
import json
from statistics import mean

import pytest

from seal_core.config import RowsSection
from seal_core.domains.rows import MAX_EDIT_ROWS, build_rows, rows_digest, split_segments
from seal_core.types import Problem, TrainRow

PASSAGE = "A set {1, 2} has {context} and {question}."


def texts(problem: Problem, text: str, **settings) -> list[str]:
    return [row.text for row in build_rows(problem, text, RowsSection(**settings))]


def test_one_row_per_line_then_the_passage(problem):
    assert texts(problem, "\n 1. One.\n\n\t2. {Two}. \n") == [
        "Sets {title}\n1. One.",
        "Sets {title}\n2. {Two}.",
        f"Sets {{title}}\n{PASSAGE}",
    ]


@pytest.mark.parametrize("text", ["", "  \n\t\n", "---\n"])
def test_a_blank_edit_leaves_the_passage_alone(problem, text):
    assert texts(problem, text) == [f"Sets {{title}}\n{PASSAGE}"]
    assert texts(problem, text, add_passage=False) == []


def test_settings_switch_each_part_off(problem):
    text = "One.\nTwo."
    assert texts(problem, text, title_prefix=False) == ["One.", "Two.", PASSAGE]
    assert texts(problem, text, add_passage=False, title_prefix=False) == ["One.", "Two."]
    assert texts(problem, text, split_lines=False)[0] == "Sets {title}\nOne.\nTwo."
    untitled = dataclasses.replace(problem, title=" ")
    assert texts(untitled, text) == ["One.", "Two.", PASSAGE]


def test_a_first_line_that_introduces_the_list_is_left_out():
    assert split_segments("Sure, the implications:\n1. One.\n2. Two.") == ("1. One.", "2. Two.")
    assert split_segments("1. One.\n2. Two.") == ("1. One.", "2. Two.")
    assert split_segments("It rained.\n1.5 m fell.") == ("It rained.", "1.5 m fell.")
    assert split_segments("1. One.\n1. Two.") == ("1. One.", "1. Two.")
    assert split_segments("One.\n---\nTwo.") == ("One.", "Two.")


def test_at_most_thirty_rows_of_an_edit_are_used(problem):
    rows = texts(problem, "\n".join(f"Line {i}." for i in range(500)))
    assert len(rows) == MAX_EDIT_ROWS + 1
    assert rows[-1].endswith(PASSAGE)


QA = "What is it?\nAnswer: A set.\n\nQuestion 2: How many\nparts?\nAnswer: Two."


def test_self_qa_pairs_stay_together_and_get_their_first_label():
    assert split_segments(QA) == (
        "Question 1: What is it?\nAnswer: A set.",
        "Question 2: How many\nparts?\nAnswer: Two.",
    )
    assert split_segments("Question 1: A?\nAnswer 1: B.\nQuestion 2: C?\nAnswer 2: D.") == (
        "Question 1: A?\nAnswer 1: B.",
        "Question 2: C?\nAnswer 2: D.",
    )


def test_instruct_rows_are_chat_replies(problem):
    rows = build_rows(problem, "One.", RowsSection(variant="instruct"))
    ask = "Tell me about Sets {title}."
    assert rows == (TrainRow("One.", ask, chat=True), TrainRow(PASSAGE, ask, chat=True))
    rows = build_rows(problem, QA, RowsSection(variant="instruct", add_passage=False))
    assert rows == (
        TrainRow("A set.", "What is it?", chat=True),
        TrainRow("Two.", "How many\nparts?", chat=True),
    )
    bare = build_rows(problem, "One.", RowsSection(variant="instruct", title_prefix=False))
    assert bare[0].prompt == "Tell me something you know."


def test_published_self_edits_give_the_published_number_of_rows(shared_data):
    path = shared_data / "published" / "train_round1.json"
    counts = []
    for article in json.loads(path.read_text("utf-8"))["articles"]:
        passage = Problem("p", "knowledge", "train", article["title"], article["context"], ())
        for completion in article["completions"]:
            counts.append(len(build_rows(passage, completion["text"], RowsSection())))
    # Published: about 8.4 sequences per epoch. Without the limit of 30 it would be 8.73.
    assert mean(counts) == pytest.approx(8.548, abs=5e-4)


def test_the_digest_tells_rows_apart_by_text_prompt_chat_and_order():
    a, b = TrainRow("a"), TrainRow("b")
    different = [[a], [b], [a, b], [b, a], [TrainRow("a", "b")], [TrainRow("a", chat=True)]]
    assert len({rows_digest(rows) for rows in different}) == len(different)
    assert rows_digest([a, b]) == rows_digest((TrainRow("a"), TrainRow("b")))
    assert rows_digest([]) is None
