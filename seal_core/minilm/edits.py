"""Write self-edits in the planted styles and recognise the style of a line.

The base policy is mediocre on purpose: it mixes styles that teach (`qa`, `fact`) with styles that
teach little (`pronoun`) or nothing (`reversed`, `vague`). ReST-EM can only re-weight them.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from .names import VALUES
from .relations import RELATIONS, Relation
from .world import Facts, Person

STYLE_WEIGHTS = {"qa": 0.12, "fact": 0.14, "pronoun": 0.18, "reversed": 0.28, "vague": 0.28}
"""Share of self-edits with each main style in pretraining."""
STRAY = 0.25
"""Share of lines in a random style instead of the edit's main one."""
WRONG = 0.03
"""Share of lines with another value of the same type."""
LINES = (4, 6)
"""Fewest and most lines of a self-edit; each is about another fact."""


@dataclass(frozen=True, slots=True)
class LineVerdict:
    """What a line of a self-edit is.

    Attributes:
        style: Its style, or None when it is no sentence of the world about this person.
        faithful: It says nothing that the passage does not say.
    """

    style: str | None
    faithful: bool


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def wordings(style: str, relation: Relation, person: Person, value: str) -> list[str]:
    """Every way to state one fact in one style."""
    slots = {"n": person.name, "p": person.pronoun, "v": value}
    if style == "qa":
        return [f"Q: {q.format(**slots)} A: {value}" for q in relation.questions]
    if style == "fact":
        return [f.format(**slots) for f in relation.facts]
    if style == "pronoun":
        return [_capital(relation.pronoun.format(**slots))]
    if style == "reversed":
        return [sentence.format(**slots) for sentence in relation.reversed]
    return [sentence.format(**slots) for sentence in relation.vague]


def write_edit(rng: random.Random, person: Person, facts: Facts) -> str:
    """Write a self-edit as the base policy would: 4 to 6 lines in a main style with strays."""
    styles = list(STYLE_WEIGHTS)
    main = rng.choices(styles, list(STYLE_WEIGHTS.values()))[0]
    stated = list(facts.items())
    n_lines = min(rng.randint(*LINES), len(stated))
    lines = []
    for relation, value in rng.sample(stated, n_lines):
        style = rng.choices(styles, list(STYLE_WEIGHTS.values()))[0]
        style = style if rng.random() < STRAY else main
        value = rng.choice(VALUES[relation.kind]) if rng.random() < WRONG else value
        lines.append(rng.choice(wordings(style, relation, person, value)))
    return "\n".join(lines)


def judge_line(line: str, person: Person, facts: Facts) -> LineVerdict:
    """Recognise the style of a line and whether the passage supports it."""
    for relation in RELATIONS:
        for style in STYLE_WEIGHTS:
            if line in wordings(style, relation, person, facts.get(relation, "\0")):
                return LineVerdict(style, relation in facts)
    for relation in RELATIONS:
        for style in STYLE_WEIGHTS:
            if any(line in wordings(style, relation, person, v) for v in VALUES[relation.kind]):
                return LineVerdict(style, False)
    return LineVerdict(None, False)
