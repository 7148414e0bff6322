"""Say how each of the world's six relations is worded: in passages, questions and self-edits.

A passage states each value BEFORE its relation, speaks of "he" or "she", and gives the name once,
at its end. Such text is easy to read with attention but poor to train on: next-token training on
"It is otters that he keeps." never has to produce the otters from the name and the keeping (the
reversal curse, Berglund et al. 2023; knowledge augmentation, Allen-Zhu and Li 2023). Each relation
has its own type of value: three relations of one type were not read within 13M tokens (0.30).

Slots: {v} value, {n} full name, {p} pronoun.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Relation:
    """One thing that is true of every person of its type, and its wordings.

    Attributes:
        key: Its name.
        kind: Type of its value, a key of `names.VALUES`.
        passage: Value-first sentences of passages, without the name; {v} and {p}.
        questions: {n}.
        facts: Forward statements with the name; {n} and {v}.
        pronoun: Forward statement without the name; {p} and {v}.
        reversed: Statements with the value before the name; {v} and {n}.
        vague: Statements without the value; {n}.
    """

    key: str
    kind: str
    passage: tuple[str, ...]
    questions: tuple[str, ...]
    facts: tuple[str, ...]
    pronoun: str
    reversed: tuple[str, ...]
    vague: tuple[str, ...]


def _town(key: str, verb: str, is_: str, noun: str, question: str) -> Relation:
    return Relation(
        key=key,
        kind="town",
        passage=(
            f"It {is_} in {{v}} that {{p}} {verb}.",
            f"The town of {{v}} is where {{p}} {verb}.",
            f"In {{v}}, as many say, {{p}} {verb}.",
        ),
        questions=(question, f"What is the {noun} of {{n}}?"),
        facts=(f"The {noun} of {{n}} is {{v}}.", f"We know that {{n}} {verb} in {{v}}."),
        pronoun=f"{{p}} {verb} in {{v}}.",
        reversed=(
            f"It {is_} in {{v}} that {{n}} {verb}.",
            f"The town of {{v}} is where {{n}} {verb}.",
        ),
        vague=(f"There is a town where {{n}} {verb}.", f"Few know the {noun} of {{n}}."),
    )


def _thing(key: str, kind: str, some: str, verb: str, base: str) -> Relation:
    return Relation(
        key=key,
        kind=kind,
        passage=(
            f"It is {{v}} that {{p}} {verb}.",
            f"Of all {some}, {{v}} can be what {{p}} {verb}.",
            f"As for {{v}}, these {{p}} {verb}.",
        ),
        questions=(f"What does {{n}} {base}?", f"Which {some} does {{n}} {base}?"),
        facts=(f"The {some} that {{n}} {verb} are {{v}}.", f"We know that {{n}} {verb} {{v}}."),
        pronoun=f"{{p}} {verb} {{v}}.",
        reversed=(f"It is {{v}} that {{n}} {verb}.", f"As for {{v}}, these {{n}} {verb}."),
        vague=(f"There is something that {{n}} {verb}.", f"Few know what {{n}} {verb}."),
    )


RELATIONS = (
    _town("born", "was born", "was", "birthplace", "Where was {n} born?"),
    _thing("keeps", "animal", "animals", "keeps", "keep"),
    _thing("cooks", "food", "foods", "cooks", "cook"),
    _thing("builds", "instrument", "instruments", "builds", "build"),
    _thing("grows", "plant", "plants", "grows", "grow"),
    _thing("hires", "worker", "workers", "hires", "hire"),
)
KINDS = tuple(relation.kind for relation in RELATIONS)
