"""Makes the edits and questions to time, with the token counts of the published run.

Only lengths come from the published data: weights are random, so any text does. A text has one
ASCII letter per token, for a tokenizer with one token per byte.
"""

from __future__ import annotations

import json
import os
import random
import re
import string
from collections.abc import Iterator, Sequence
from pathlib import Path

from seal_core.config import RowsSection
from seal_core.domains.prompts import get_prompt
from seal_core.domains.rows import build_rows
from seal_core.engines import GenerateRequest, LoraSettings, TrainJob, TrainRow
from seal_core.types import Problem

ROOT = Path(__file__).parents[2]
QUESTIONS = 5
"""Per edit, about as many as a passage has in the published run."""
ANSWER_TOKENS = 32
PIECE = 7
"""Letters per token of a long word. Chosen so that the published round's self-edits have the
tokens that Qwen2.5's tokenizer gives them: 454 per epoch, 53 per row; published are 445 and 53."""

# How tokenizers of GPT's kind cut a text before they look at their vocabulary.
_PIECES = re.compile(
    r"'(?:[sdmt]|ll|ve|re)|[^\r\n\w]?[^\W\d_]+|\d| ?[^\s\w]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

Lengths = tuple[int, ...]
"""Tokens of each row of one edit, the end token included."""

RECORDED: tuple[Lengths, ...] = (
    (23, 15, 15, 18, 119),
    (15, 31, 23, 17, 149),
    (17, 20, 18, 45, 17, 13, 136),
    (19, 32, 35, 41, 148),
    (26, 36, 36, 36, 35, 33, 81),
    (42, 35, 43, 47, 120),
    (32, 23, 26, 26, 26, 31, 132),
    (35, 33, 29, 27, 34, 148),
    (21, 24, 21, 28, 30, 26, 28, 132),
    (17, 20, 18, 23, 17, 19, 23, 28, 148),
    (21, 25, 25, 22, 31, 34, 169),
    (41, 29, 30, 29, 35, 164),
    (65, 57, 47, 45, 120),
    (27, 21, 32, 23, 27, 29, 29, 153),
    (19, 32, 30, 29, 31, 29, 24, 34, 39, 40, 44),
    (38, 31, 31, 44, 43, 37, 136),
    (30, 34, 29, 35, 54, 186),
    (27, 32, 33, 28, 33, 220),
    (24, 16, 35, 22, 19, 28, 25, 31, 179),
    (29, 54, 26, 35, 31, 211),
    (57, 52, 37, 45, 33, 36, 136),
    (21, 27, 27, 24, 27, 27, 18, 20, 28, 188),
    (29, 22, 34, 35, 29, 38, 234),
    (38, 36, 24, 33, 29, 38, 234),
    (27, 42, 38, 42, 28, 38, 234),
    (28, 26, 23, 27, 21, 23, 38, 25, 36, 43, 169),
    (15, 23, 20, 25, 18, 29, 18, 58, 15, 26, 225),
    (43, 57, 41, 51, 49, 51, 55, 136),
    (19, 21, 20, 27, 19, 19, 20, 33, 28, 29, 28, 35, 27, 24, 35, 115),
    (30, 27, 44, 25, 28, 28, 331),
    (22, 23, 23, 21, 25, 52, 58, 21, 25, 35, 225),
    (41, 39, 43, 44, 47, 57, 51, 49, 169),
    (47, 40, 45, 38, 48, 34, 41, 258),
    (17, 21, 45, 18, 11, 26, 18, 14, 19, 16, 24, 23, 23, 40, 15, 23, 25, 19, 164),
    (26, 27, 34, 57, 47, 38, 28, 60, 47, 211),
    (33, 39, 41, 36, 33, 20, 54, 35, 310),
    (40, 48, 24, 47, 56, 39, 38, 31, 310),
    (51, 43, 48, 41, 54, 57, 39, 45, 53, 45, 45, 43, 194),
    (
        19,
        35,
        31,
        24,
        42,
        36,
        29,
        51,
        47,
        55,
        44,
        5,
        4,
        134,
        37,
        15,
        30,
        29,
        19,
        26,
        24,
        17,
        35,
        26,
        39,
        37,
        134,
    ),
    (
        50,
        39,
        50,
        50,
        40,
        32,
        10,
        209,
        24,
        11,
        59,
        47,
        35,
        49,
        42,
        32,
        10,
        209,
        24,
        15,
        11,
        59,
        47,
        44,
        44,
        32,
        10,
        209,
        24,
        15,
        152,
    ),
)
"""What `published()` gives for 40 edits at even quantiles, for machines without the data."""

RECORDED_PROMPTS: Lengths = (24, 26, 27, 28, 29, 30, 32, 34, 36, 39)
"""Tokens of 10 closed-book prompts at even quantiles of the published questions, same source."""


def published_file() -> Path:
    """The published round 1, where the project's tests find it."""
    default = ROOT.parent / "shared" / "data"
    return Path(os.environ.get("SEAL_TEST_DATA", default)) / "published" / "train_round1.json"


def published() -> tuple[list[Lengths], list[int]]:
    """Row lengths of all published self-edits, and lengths of all prompts, both sorted.

    Rows are the project's own: title and line, the passage last.
    """
    articles = json.loads(published_file().read_text("utf-8"))["articles"]
    edits, prompts = [], {}
    template = get_prompt("answer@1")
    for article in articles:
        problem = Problem("", "knowledge", "train", article["title"], article["context"], ())
        for completion in article["completions"]:
            rows = build_rows(problem, completion["text"], RowsSection())
            edits.append(tuple(count_tokens(row.text) + 1 for row in rows))
            for item in completion["questions"]:
                text = template.render(question=item["question"]).text
                prompts[article["title"], item["question"]] = count_tokens(text)
    return sorted(edits, key=lambda lengths: (sum(lengths), lengths)), sorted(prompts.values())


def count_tokens(text: str) -> int:
    """About as many tokens as a large vocabulary needs for English."""
    return sum(max(1, -(-len(piece.strip()) // PIECE)) for piece in _PIECES.findall(text))


def at_quantiles(values: Sequence, n: int) -> list:  # type: ignore[type-arg]
    """The n values at the middle of n equal parts of a sorted sequence."""
    return [values[int((i + 0.5) * len(values) / n)] for i in range(n)]


def published_like(n: int) -> list[Lengths]:
    """N edits at even quantiles of the published tokens per epoch."""
    if published_file().is_file():
        return at_quantiles(published()[0], n)
    return at_quantiles(sorted(RECORDED * -(-n // len(RECORDED)), key=sum), n)


def fixed(n: int, tokens: int = 445) -> list[Lengths]:
    """N edits of 8.4 rows on average and `tokens` tokens each; proportions as published."""
    by_rows = {k: [lengths for lengths in RECORDED if len(lengths) == k] for k in (8, 9)}
    edits = []
    for i in range(n):
        alike = by_rows[9 if i % 5 in (1, 3) else 8]
        lengths = alike[i // 5 % len(alike)]
        scaled = [max(2, length * tokens // sum(lengths)) for length in lengths]
        edits.append((*scaled[:-1], tokens - sum(scaled[:-1])))
    return edits


def jobs(edits: Sequence[Lengths], settings: LoraSettings, label: str = "edit") -> list[TrainJob]:
    """One training job per edit."""
    letters = _letters()
    return [
        TrainJob(
            f"{label}-{i}",
            tuple(TrainRow(_text(letters, length - 1)) for length in lengths),
            settings,
            seed=i,
        )
        for i, lengths in enumerate(edits)
    ]


def requests(
    adapters: Sequence[str], n_tokens: int = ANSWER_TOKENS, questions: int = QUESTIONS
) -> list[GenerateRequest]:
    """Some questions to each adapter, answered greedily."""
    letters = _letters()
    return [
        GenerateRequest(
            f"{place}-{i}",
            _text(letters, RECORDED_PROMPTS[(place + i) % len(RECORDED_PROMPTS)]),
            (path,),
            max_tokens=n_tokens,
        )
        for place, path in enumerate(adapters)
        for i in range(questions)
    ]


def _letters() -> Iterator[str]:
    rng = random.Random(0)
    while True:
        yield rng.choice(string.ascii_lowercase)


def _text(letters: Iterator[str], n: int) -> str:
    return "".join(next(letters) for _ in range(n))
