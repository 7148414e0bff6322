"""Turns the text of a self-edit into training rows.

Paper, section 3.1: one row per implication, each after the passage's title, and the passage
itself as the last row. Two rules are from the published code, so that the same text gives the
same rows: a first line that only introduces the list is left out, and at most 30 rows of a
self-edit are used (a policy in a loop writes hundreds). Self-QA text (appendix B) is split at
"Question n:", so that a question stays with its answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from seal_core.config import RowsSection
from seal_core.fingerprint import digest
from seal_core.types import Problem, TrainRow

MAX_EDIT_ROWS = 30
"""Rows of one self-edit beyond this many are not trained on (the published code's limit)."""

_QUESTION = re.compile(r"(?m)^[ \t]*(?=Question\s+\d+:)")
_QA = re.compile(
    r"Question\s+\d+:\s*(?P<question>.*?)\s*Answer(?:\s+\d+)?\s*:\s*(?P<answer>.*)", re.S
)
_FIRST_ITEM = re.compile(r"1\.(?!\d)")
_SEPARATOR = re.compile(r"-{3,}")


def build_rows(problem: Problem, text: str, rows: RowsSection) -> tuple[TrainRow, ...]:
    """The training rows of one self-edit.

    With `variant = "instruct"` each row is a chat reply: the user says "Tell me about
    {title}." and the reply is the line; of a question-answer pair the user asks the question.
    Only replies are trained on. Without titles the user says "Tell me something you know.".

    Args:
        text: The self-edit; blank gives no rows of its own, only the passage's.

    Returns:
        Possibly no row at all, if `text` is blank and `rows.add_passage` is off.
    """
    segments = list(split_segments(text, rows.split_lines))[:MAX_EDIT_ROWS]
    if rows.add_passage:
        segments.append(problem.context.strip())
    make = _chat_row if rows.variant == "instruct" else _plain_row
    title = problem.title.strip() if rows.title_prefix else ""
    return tuple(make(title, segment) for segment in segments)


def rows_digest(rows: Sequence[TrainRow]) -> str | None:
    """Digest of what a training reads: prompts, texts and flags in order; None of no row."""
    if not rows:
        return None
    opens = [["open"] if row.is_open else [] for row in rows]
    weights = [[row.weight] if row.weight != 1.0 else [] for row in rows]
    marks = zip(rows, opens, weights, strict=True)
    return digest([[row.prompt, row.text, row.chat, *o, *w] for row, o, w in marks])


def split_segments(text: str, split_lines: bool = True) -> tuple[str, ...]:
    """The units of a self-edit: lines, question-answer pairs, or the whole text."""
    if not text.strip():
        return ()
    if not split_lines:
        return (text.strip(),)
    if _is_self_qa(text):
        return _qa_pairs(text)
    lines = [line.strip() for part in _SEPARATOR.split(text) for line in part.splitlines()]
    lines = [line for line in lines if line]
    # "Sure, here is a list of implications:" teaches nothing about the passage.
    if len(lines) > 1 and _FIRST_ITEM.match(lines[1]) and not _FIRST_ITEM.match(lines[0]):
        lines = lines[1:]
    return tuple(lines)


def _is_self_qa(text: str) -> bool:
    """Whether a text has questions with answers; its first question may lack its label."""
    return bool(re.search(r"Question\s+\d+:", text) and re.search(r"Answer(\s+\d+)?\s*:", text))


def _qa_pairs(text: str) -> tuple[str, ...]:
    pairs = [pair.strip() for pair in _QUESTION.split(text.strip()) if pair.strip()]
    # The self-QA prompt ends with "Question 1:", so the completion starts after that label.
    if not pairs[0].startswith("Question"):
        pairs[0] = f"Question 1: {pairs[0]}"
    return tuple(pairs)


def _plain_row(title: str, segment: str) -> TrainRow:
    return TrainRow(text=f"{title}\n{segment}" if title else segment)


def _chat_row(title: str, segment: str) -> TrainRow:
    pair = _QA.fullmatch(segment)
    if pair and pair["question"] and pair["answer"].strip():
        return TrainRow(text=pair["answer"].strip(), prompt=pair["question"], chat=True)
    ask = f"Tell me about {title}." if title else "Tell me something you know."
    return TrainRow(text=segment, prompt=ask, chat=True)
