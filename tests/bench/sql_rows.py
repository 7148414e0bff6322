"""Rows of a large store, made up column by column: consistent, and of realistic lengths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from storage.tables.schema import TABLES

Rows = dict[str, pa.Table]
_LINES_PER_EDIT = 12


@dataclass(frozen=True)
class Size:
    """How much; `shard` is problems per part."""

    runs: int = 4
    rounds: int = 3
    problems: int = 5000
    heldout: int = 500
    edits: int = 5
    repeats: int = 3
    questions: int = 10
    heldout_repeats: int = 5
    shard: int = 100


FULL = Size()
TOY = Size(2, 2, 6, 4, 3, 2, 2, 2, 3)


class Texts:
    """Pools of made-up words, phrases and sentences."""

    def __init__(self, rng: np.random.Generator) -> None:
        letters = np.array(list("etaoinshrdlucmfwypvbgkqjxz"))
        lengths = rng.integers(2, 11, 5000)
        self._words = np.array(["".join(rng.choice(letters, n)) for n in lengths], dtype=object)
        self.phrases = self._pool(rng, 20_000, 2, 8)
        self.sentences = self._pool(rng, 20_000, 10, 20)

    def paragraphs(self, rng: np.random.Generator, n: int, lines: int) -> pa.Array:
        """Texts of so many sentences each."""
        picks = (self.sentences.take(pa.array(i)) for i in rng.integers(0, 20_000, (lines, n)))
        return pc.binary_join_element_wise(*picks, "\n")  # pyright: ignore[reportAttributeAccessIssue]

    def _pool(self, rng: np.random.Generator, n: int, low: int, high: int) -> pa.Array:
        lengths = rng.integers(low, high, n)
        return pa.array([" ".join(rng.choice(self._words, k)) + "." for k in lengths])


class Problems:
    """Passages and questions of one split; the same in every run, as the same data is."""

    def __init__(self, texts: Texts, split: str, n: int, n_questions: int) -> None:
        rng = np.random.default_rng([1, split == "train"])
        self.split, self.n_questions = split, n_questions
        self.ids = ids(rng, "problem", n)
        self.question_ids = ids(rng, "question", n * n_questions)
        self.gold = texts.phrases.take(pa.array(rng.integers(0, 20_000, n * n_questions)))
        self._titles = texts.phrases.take(pa.array(rng.integers(0, 20_000, n)))
        self._contexts = texts.paragraphs(rng, n, 8)
        self._prompts = texts.sentences.take(pa.array(rng.integers(0, 20_000, n * n_questions)))

    def rows(self, part: slice) -> Rows:
        """The tables `problems` and `questions` of a shard."""
        own = self.ids[part]
        asked = slice(part.start * self.n_questions, part.stop * self.n_questions)
        gold = self.gold[asked]
        offsets = np.arange(len(gold) + 1, dtype=np.int32)
        problems = {
            "problem_id": own, "domain": "knowledge", "split": self.split,
            "title": self._titles[part], "context": self._contexts[part],
            "n_questions": self.n_questions,
        }  # fmt: skip
        questions = {
            "question_id": self.question_ids[asked],
            "problem_id": own.take(_each(len(own), self.n_questions)),
            "split": self.split, "question_index": np.tile(np.arange(self.n_questions), len(own)),
            "prompt": self._prompts[asked], "gold": pa.ListArray.from_arrays(offsets, gold),
        }  # fmt: skip
        return {"problems": table("problems", problems), "questions": table("questions", questions)}


@dataclass(frozen=True)
class Setting:
    """What the rows of one shard of one stage have in common."""

    rng: np.random.Generator
    texts: Texts
    problems: Problems
    part: slice
    condition: str
    policy_id: str
    edits: int
    repeats: int

    @cached_property
    def common(self) -> dict[str, Any]:
        """Columns that every table has."""
        names = {"split": self.problems.split, "condition": self.condition}
        return {**names, "policy_id": self.policy_id}

    @property
    def n_problems(self) -> int:
        """Problems of the shard."""
        return self.part.stop - self.part.start

    def self_edits(self) -> pa.Table:
        """Sampled texts."""
        n = self.n_problems * self.edits
        columns = {
            "self_edit_id": ids(self.rng, "edit", n),
            "problem_id": self.problems.ids[self.part].take(_each(self.n_problems, self.edits)),
            "sample_index": np.tile(np.arange(self.edits), self.n_problems),
            "prompt_id": "implications@1",
            "text": self.texts.paragraphs(self.rng, n, _LINES_PER_EDIT),
            "n_tokens": self.rng.integers(150, 500, n), "logprob": -200 * self.rng.random(n),
            "finish_reason": "stop", "seed": self.rng.integers(0, 2**62, n), "unusable": None,
            "error": None,
        }  # fmt: skip
        return table("self_edits", {**self.common, **columns})

    def adapters(self, edits: pa.Table) -> pa.Table:
        """Weights of each repeat of each self-edit."""
        n = edits.num_rows * self.repeats
        whose, sha256 = _each(edits.num_rows, self.repeats), hexes(self.rng, n, 32)
        uri = pc.binary_join_element_wise("_adapters", pc.utf8_slice_codeunits(sha256, 0, 2), sha256, "/")  # pyright: ignore[reportAttributeAccessIssue] # fmt: skip  # noqa: E501
        columns = {
            "adapter_id": ids(self.rng, "adapter", n),
            "self_edit_id": edits["self_edit_id"].take(whose),
            "problem_id": edits["problem_id"].take(whose),
            "repeat": np.tile(np.arange(self.repeats), edits.num_rows),
            "uri": uri, "sha256": sha256, "rows_sha256": hexes(self.rng, n, 32), "rank": 32,
            "n_rows": _LINES_PER_EDIT, "n_steps": 120, "n_tokens": self.rng.integers(1500, 5000, n),
            "first_loss": 3 * self.rng.random(n), "final_loss": self.rng.random(n),
            "seed": self.rng.integers(0, 2**62, n), "error": None,
        }  # fmt: skip
        return table("adapters", {**self.common, **columns})

    def answers(self, adapters: pa.Table | None, skill: np.ndarray) -> pa.Table:
        """Graded answers of each adapter, or of the policy alone.

        Args:
            skill: Probability of a right answer, one per adapter or problem.
        """
        n_questions = self.problems.n_questions
        models = self.n_problems if adapters is None else adapters.num_rows
        n, whose = models * n_questions, _each(models, n_questions)
        problem = np.repeat(np.arange(self.n_problems), models // self.n_problems)
        question = (self.part.start + problem)[:, None] * n_questions + np.arange(n_questions)
        asked = pa.array(question.ravel())
        lost = self.rng.random(n) < 0.001
        right = self.rng.random(n) < np.repeat(skill, n_questions)
        said = self.texts.phrases.take(pa.array(self.rng.integers(0, 20_000, n)))
        text = pc.if_else(pa.array(right), self.problems.gold.take(asked), said)  # pyright: ignore[reportAttributeAccessIssue]
        named = adapters is not None
        columns = {
            "answer_id": ids(self.rng, "answer", n),
            "problem_id": self.problems.ids.take(pa.array(self.part.start + problem)).take(whose),
            "question_id": self.problems.question_ids.take(asked),
            "adapter_id": adapters["adapter_id"].take(whose) if named else None,
            "self_edit_id": adapters["self_edit_id"].take(whose) if named else None,
            "repeat": adapters["repeat"].take(whose) if named else 0,
            "text": pc.if_else(pa.array(lost), None, text),  # pyright: ignore[reportAttributeAccessIssue]
            "correct": pa.array(right, mask=lost),
            "grades": _grades(right, lost), "logprob": pa.array(-8 * self.rng.random(n), mask=lost),
            "n_tokens": self.rng.integers(2, 12, n), "grader": "exact_match",
            "reference_logprob": None, "reference_tokens": None,
            "error": pc.if_else(pa.array(lost), "the answer did not come in time", None),  # pyright: ignore[reportAttributeAccessIssue]
        }  # fmt: skip
        return table("answers", {**self.common, **columns})


def ids(rng: np.random.Generator, kind: str, n: int) -> pa.StringArray:
    """Ids such as `edit-3f9a…`."""
    return hexes(rng, n, 8, f"{kind}-")


def hexes(rng: np.random.Generator, n: int, n_bytes: int, prefix: str = "") -> pa.StringArray:
    """Random digests."""
    head, width = prefix.encode(), len(prefix) + 2 * n_bytes
    data = np.empty((n, width), np.uint8)
    data[:, : len(head)] = np.frombuffer(head, np.uint8)
    digits = np.frombuffer(rng.bytes(n * n_bytes).hex().encode(), np.uint8)
    data[:, len(head) :] = digits.reshape(n, 2 * n_bytes)
    offsets = np.arange(n + 1, dtype=np.int32) * width
    return pa.StringArray.from_buffers(n, pa.py_buffer(offsets), pa.py_buffer(data))


def table(name: str, columns: dict[str, Any]) -> pa.Table:
    """A table of the store; a column given as one value has it in every row."""
    schema = TABLES[name].schema
    n = max(len(c) for c in columns.values() if hasattr(c, "__len__") and not isinstance(c, str))
    return pa.Table.from_arrays(
        [_array(columns[field.name], field.type, n) for field in schema], schema=schema
    )


def _array(values: Any, kind: pa.DataType, n: int) -> Any:
    if isinstance(values, (pa.Array, pa.ChunkedArray)):
        return values.cast(kind)
    if isinstance(values, (np.ndarray, Sequence)) and not isinstance(values, str):
        return pa.array(values, kind)
    return pa.nulls(n, kind) if values is None else pa.repeat(pa.scalar(values, kind), n)


def _each(n: int, times: int) -> pa.Array:
    return pa.array(np.repeat(np.arange(n), times))


def _grades(right: np.ndarray, lost: np.ndarray) -> pa.Array:
    """All gradings of each answer, all alike; null where it was lost."""
    names = ["contains", "exact_match", "f1"]
    ends = np.cumsum(np.where(lost, 0, len(names)))
    offsets = pa.array(np.concatenate([[0], ends]).astype(np.int32), mask=np.append(lost, False))
    known = right[~lost]
    keys, items = np.tile(names, len(known)), np.repeat(known.astype(float), len(names))
    return pa.MapArray.from_arrays(offsets, pa.array(keys), pa.array(items))
