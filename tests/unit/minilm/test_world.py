"""The world: deterministic, disjoint, and every answer is in its passage."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest

from seal_core.minilm.edits import STYLE_WEIGHTS, judge_line, wordings, write_edit
from seal_core.minilm.names import FEMALE, LAST, MALE, VALUES
from seal_core.minilm.world import (
    facts_of,
    make_passages,
    pretraining_people,
    split_people,
)

SPLITS = ("train", "heldout", "closed_book")


@pytest.mark.parametrize("split", SPLITS)
def test_the_first_passages_do_not_depend_on_how_many_are_made(split):
    assert make_passages(split, 10, 3) == make_passages(split, 20, 3)[:10]


def test_another_process_makes_the_same_passages():
    code = (
        "from seal_core.minilm.world import make_passages; import sys;"
        "sys.stdout.write(make_passages('heldout', 5, 1)[4].context);"
        "assert 'torch' not in sys.modules"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout == make_passages("heldout", 5, 1)[4].context


def test_another_seed_makes_other_passages():
    assert make_passages("train", 5, 0) != make_passages("train", 5, 1)


def test_nobody_is_in_two_groups():
    groups = [{p.name for p in split_people(s)} for s in SPLITS]
    groups.append({p.name for p in pretraining_people()})
    assert sum(map(len, groups)) == len(set().union(*groups))


def test_no_word_is_both_a_name_and_a_value():
    words = [*MALE, *FEMALE, *LAST, *(v for values in VALUES.values() for v in values)]
    assert len(words) == len(set(words))


@pytest.mark.parametrize("split", SPLITS)
def test_every_answer_is_in_the_passage_and_no_title_names_anybody(split):
    for passage in make_passages(split, 100):
        assert len(passage.questions) == 6
        assert len({qa.question for qa in passage.questions}) == 6
        for qa in passage.questions:
            assert all(answer in passage.context for answer in qa.answers)
        assert passage.title.removeprefix("Record ").isdigit()


def test_some_answers_have_two_words():
    answers = [qa.answers[0] for p in make_passages("heldout", 50) for qa in p.questions]
    assert 0.2 < sum(" " in a for a in answers) / len(answers) < 0.6


@pytest.mark.parametrize("n", [-1, 100_000])
def test_an_impossible_number_of_passages_is_refused(n):
    with pytest.raises(ValueError, match="people"):
        make_passages("train", n)


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match="heldout"):
        make_passages("test", 1)  # type: ignore[arg-type]


@pytest.mark.parametrize("style", STYLE_WEIGHTS)
def test_every_wording_is_recognised(style):
    person = split_people("train")[7]
    facts = facts_of(person)
    for relation, value in facts.items():
        for line in wordings(style, relation, person, value):
            assert judge_line(line, person, facts).style == style
            assert judge_line(line, person, facts).faithful
            assert "\n" not in line


def test_a_wrong_value_and_nonsense_are_not_faithful():
    person = split_people("train")[0]
    facts = facts_of(person)
    relation, value = next(iter(facts.items()))
    other = next(v for v in VALUES[relation.kind] if v != value)
    lines = [*wordings("fact", relation, person, other), "All is well.", ""]
    assert not any(judge_line(line, person, facts).faithful for line in lines)


def test_self_edits_are_short_lines_mostly_faithful():
    person = split_people("train")[3]
    rng = random.Random(0)
    edits = [write_edit(rng, person, facts_of(person)) for _ in range(200)]
    lines = [line for edit in edits for line in edit.split("\n")]
    faithful = [judge_line(line, person, facts_of(person)).faithful for line in lines]
    assert 4 <= len(lines) / len(edits) <= 6
    assert sum(faithful) / len(faithful) > 0.95
