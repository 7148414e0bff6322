"""Make the fictional people of the embedded default and the passages and questions about them."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from .names import FEMALE, LAST, MALE, VALUES
from .relations import KINDS, RELATIONS, Relation

Split = Literal["train", "heldout", "closed_book"]

# A person is a first name i and a last name j; (i + j) modulo 8 says who may meet the person, so
# the groups share every single name and no full name.
_BUCKETS: dict[str, int] = {"train": 0, "heldout": 1, "closed_book": 2}
_N_BUCKETS = 8
N_CLOSED_BOOK = 200
"""Fixed people whose facts pretraining teaches by heart."""

FILLERS = (
    "The winters there are long.",
    "Much more could be said.",
    "Some of it was long ago.",
    "The papers are now faded.",
    "This was written down with care.",
)
NAMING = ("This is the record of {n}.", "All of this is told of {n}.", "Such is {n}.")


@dataclass(frozen=True, slots=True)
class QA:
    """A question and its accepted answers."""

    question: str
    answers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Passage:
    """A short text about one person, with about six questions on it.

    Attributes:
        title: A neutral title such as "Record 17"; it names nobody.
        context: The text, at most 80 tokens of the packaged tokenizer.
        questions: One per stated fact, in another order than the text's.
    """

    title: str
    context: str
    questions: tuple[QA, ...]


@dataclass(frozen=True, slots=True)
class Person:
    """A full name and the pronoun that goes with its first name."""

    name: str
    pronoun: str


Facts = Mapping[Relation, str]
"""What is true of a person: relation → value."""


def people(bucket: int) -> list[Person]:
    """Every person of one bucket (0 to 7), in a fixed order."""
    firsts = [(name, "he") for name in MALE] + [(name, "she") for name in FEMALE]
    return [
        Person(f"{first} {last}", pronoun)
        for i, (first, pronoun) in enumerate(firsts)
        for j, last in enumerate(LAST)
        if (i + j) % _N_BUCKETS == bucket
    ]


def pretraining_people() -> list[Person]:
    """The people that pretraining may meet with random facts; in no split."""
    return [p for b in range(len(_BUCKETS), _N_BUCKETS) for p in people(b)]


def split_people(split: Split) -> list[Person]:
    """The people of a split, in a fixed order."""
    found = people(_BUCKETS[split])
    if split != "closed_book":
        return found
    return random.Random("minilm closed book").sample(found, N_CLOSED_BOOK)


def random_facts(rng: random.Random, n_kinds: int = len(KINDS)) -> dict[Relation, str]:
    """Draw facts of `n_kinds` types of value: each has its own relations."""
    facts: dict[Relation, str] = {}
    for kind in rng.sample(KINDS, n_kinds):
        relations = [r for r in RELATIONS if r.kind == kind]
        facts |= dict(zip(relations, rng.sample(VALUES[kind], len(relations)), strict=True))
    return facts


def facts_of(person: Person) -> dict[Relation, str]:
    """The six facts of a person of a split; they hold in every passage about that person."""
    return random_facts(random.Random(f"minilm facts {person.name}"))


def write_context(rng: random.Random, person: Person, facts: Facts) -> str:
    """Write a passage: the facts in random order, perhaps a filler, the name at the end."""
    sentences = [
        rng.choice(relation.passage).format(v=value, p=person.pronoun)
        for relation, value in facts.items()
    ]
    rng.shuffle(sentences)
    if rng.random() < 0.5:
        sentences.insert(rng.randrange(len(sentences) + 1), rng.choice(FILLERS))
    naming = rng.choice(NAMING).format(n=person.name)
    sentences.append(naming)
    return " ".join(sentences)


def write_title(rng: random.Random) -> str:
    """A title that names nobody, so that it cannot tie a pronoun to its person."""
    return f"Record {rng.randrange(1, 1000)}"


def make_passages(split: Split, n: int, seed: int = 0) -> list[Passage]:
    """Make the first `n` passages of a split, each about another person.

    Args:
        split: "train" and "heldout" are people that the packaged model has never met;
            "closed_book" people are those whose facts it learnt by heart.
        n: How many; `make_passages(s, 10)` are the first ten of `make_passages(s, 20)`.
        seed: Another seed gives other people in another order; a person's facts stay.

    Raises:
        ValueError: The split is unknown or has fewer than `n` people.
    """
    if split not in _BUCKETS:
        raise ValueError(f"unknown split {split!r}; use one of {', '.join(_BUCKETS)}")
    found = split_people(split)
    if not 0 <= n <= len(found):
        raise ValueError(f"split {split!r} has {len(found)} people; cannot make {n} passages")
    random.Random(f"minilm order {split} {seed}").shuffle(found)
    return [_passage(person, split, seed) for person in found[:n]]


def _passage(person: Person, split: str, seed: int) -> Passage:
    rng = random.Random(f"minilm passage {split} {seed} {person.name}")
    facts = facts_of(person)
    context = write_context(rng, person, facts)
    asked = list(facts.items())
    rng.shuffle(asked)
    return Passage(
        title=write_title(rng),
        context=context,
        questions=tuple(
            QA(rng.choice(relation.questions).format(n=person.name), (value,))
            for relation, value in asked
        ),
    )
