"""Write the pretraining corpus: rows that teach reading, self-edits, and recall from weights."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .edits import wordings, write_edit
from .prompts import ANSWER_PROMPT, EDIT_PROMPT
from .relations import Relation
from .world import (
    Facts,
    Person,
    facts_of,
    pretraining_people,
    random_facts,
    split_people,
    write_context,
    write_title,
)

ROW = 192
"""Tokens of a packed row."""
IGNORE = -100
"""Label of a position without loss, as PyTorch's cross entropy has it."""
_DOCUMENTS = {"read": 0.42, "edit": 0.48, "passage": 0.10}
_RECALL_QA = 0.6
_RECALL_LINES = 2
"""Recall lines after each document."""
_ROOM = 64
"""Tokens that must be left in a row for another document."""
_EASY_UNTIL = 0.15
"""Until here passages state one to three facts and nothing is learnt by heart yet."""
_RAMP_UNTIL = 0.35
"""From here every passage states all six facts."""

Piece = tuple[str, bool]
"""Text, and whether its tokens carry loss."""


class Encoder(Protocol):
    """The part of a tokenizer that the corpus needs."""

    eos_token_id: int

    def encode(self, text: str) -> list[int]: ...


@dataclass(frozen=True, slots=True)
class Batch:
    """Packed rows; every tensor is [rows, ROW].

    Attributes:
        ids: Tokens.
        labels: The token to predict AT each position (already shifted), or `IGNORE`.
        positions: Place within the document.
        documents: Number of the document within the row; attention stays inside one.
    """

    ids: Tensor
    labels: Tensor
    positions: Tensor
    documents: Tensor


class Corpus:
    """An endless, seeded stream of batches.

    The passage in front of a question or a self-edit carries no loss: it is not predictable and
    would drown what is. A question does: the name repeated in it is what teaches to copy.
    """

    def __init__(self, encoder: Encoder, seed: int) -> None:
        self._encoder = encoder
        self._rng = random.Random(f"minilm corpus {seed}")
        self._people = pretraining_people()
        self._known = [(p, facts_of(p)) for p in split_people("closed_book")]
        self._cache: dict[str, list[int]] = {}

    def batch(self, rows: int, progress: float) -> Batch:
        """Make a batch; `progress` from 0 to 1 moves from few facts a passage to all six."""
        made = [self._row(progress) for _ in range(rows)]
        return Batch(*(torch.tensor([row[k] for row in made]) for k in range(4)))

    def _row(self, progress: float) -> tuple[list[int], list[int], list[int], list[int]]:
        """Documents, each followed by recall lines, until the row is full."""
        ids: list[int] = []
        labels: list[int] = []
        positions: list[int] = []
        documents: list[int] = []
        number = 0
        while (room := ROW - len(ids)) > 0:
            turn = progress < _EASY_UNTIL or number % (1 + _RECALL_LINES) == 0
            whole = turn and (not ids or room > _ROOM)
            doc, lab = self._encode(self._document(progress) if whole else self._recall())
            ids += doc[:room]
            labels += lab[:room]
            positions += range(min(len(doc), room))
            documents += [number] * min(len(doc), room)
            number += 1
        return ids, labels, positions, documents

    def _encode(self, pieces: list[Piece]) -> tuple[list[int], list[int]]:
        """Tokens and shifted labels of one document, end token included."""
        ids: list[int] = []
        trained: list[int] = []
        for text, loss in pieces:
            tokens = self._tokens(text)
            ids += tokens
            trained += tokens if loss else [IGNORE] * len(tokens)
        eos = self._encoder.eos_token_id
        return [*ids, eos], [*trained[1:], eos, IGNORE]

    def _tokens(self, text: str) -> list[int]:
        if text not in self._cache:
            if len(self._cache) > 50_000:
                self._cache.clear()
            self._cache[text] = self._encoder.encode(text)
        return self._cache[text]

    def _document(self, progress: float) -> list[Piece]:
        rng = self._rng
        kind = rng.choices(list(_DOCUMENTS), list(_DOCUMENTS.values()))[0]
        person, facts = rng.choice(self._people), self._facts(progress)
        context = write_context(rng, person, facts)
        if kind == "passage":
            return [(context, True)]
        head = EDIT_PROMPT.format(title=write_title(rng), context=context)
        if kind == "edit":
            return [(head, False), (write_edit(rng, person, facts), True)]
        return [(head.removesuffix("Notes:\n"), False), *self._answers(person, facts)]

    def _facts(self, progress: float) -> Facts:
        rng = self._rng
        easy = progress < _EASY_UNTIL
        if not easy and rng.random() < 0.3 + 0.7 * progress / _RAMP_UNTIL:
            return random_facts(rng)
        facts = random_facts(rng)
        return dict(rng.sample(list(facts.items()), rng.randint(1, 3 if easy else 5)))

    def _answers(self, person: Person, facts: Facts) -> list[Piece]:
        pieces: list[Piece] = []
        asked = list(facts.items())
        self._rng.shuffle(asked)
        for i, (relation, value) in enumerate(asked):
            newline = "\n" if i else ""
            pieces += [(newline + self._question(relation, person), True), (f" {value}", True)]
        return pieces

    def _question(self, relation: Relation, person: Person) -> str:
        question = self._rng.choice(relation.questions).format(n=person.name)
        return ANSWER_PROMPT.format(question=question)

    def _recall(self) -> list[Piece]:
        """A line about one of the fixed people, to be known by heart; loss on the value alone."""
        rng = self._rng
        person, facts = rng.choice(self._known)
        relation, value = rng.choice(list(facts.items()))
        style = "qa" if rng.random() < _RECALL_QA else "fact"
        before, _, after = rng.choice(wordings(style, relation, person, value)).rpartition(value)
        return [(before.removesuffix(" "), False), (f" {value}{after}", True)]
