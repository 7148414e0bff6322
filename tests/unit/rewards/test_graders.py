"""Graders: SQuAD's normalisation, max over golds, whole words, and the self-check."""

from __future__ import annotations

import json
import re
import string
import unicodedata
from pathlib import Path

import pytest

from seal_core.errors import InputError
from seal_core.rewards.graders import Grades, get_grader, grade_all, validate_question
from seal_core.rewards.normalize import normalize
from seal_core.types import Question

NAMES = ("exact_match", "f1", "contains")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The  Age of\nEnlightenment.", "age of enlightenment"),
        ("A cat, an owl & the U.S.", "cat owl us"),
        ("Theatre; another anthem", "theatre another anthem"),
        ("1750–1840", "17501840"),
        ("“Größe”", "größe"),
        ("ﬁve ５", "five 5"),
        ("東京。", "東京"),
        ("Cafe\u0301", "café"),
        ("the a an !", ""),
        ("Lon\u200bdon\ufeff \u202bParis\u202c\u200e co\u00adop", "london paris coop"),
        ("می\u200cخواهم", "میخواهم"),
        ("❤\ufe0f 👩\u200d🔬", "❤ 👩🔬"),
        ("10²", "10²"),
        ("x₂ 1½ 5º", "x₂ 1½ 5º"),
        ("Ⅳ ⅳ 𝟓 Ｂ", "iv iv 5 b"),
        ("5① 5⑴ 5⒈ ⑳ Ⓐ", "5① 5⑴ 5⒈ ⑳ ⓐ"),
        ("10㎡ 3㎥ 5㎧ 5㎏", "10m² 3m³ 5ms 5kg"),
        ("10^2 10² 10⁻²", "102 10² 10⁻²"),
        ("½ ٥ ５ ₅", "½ ٥ 5 ₅"),
        ("−5 1⁄2 1∕2", "5 12 12"),
        ("New\u2800York Hawaiʻi", "new york hawaii"),
        ("O´Brien O\u02bcBrien O’Brien", "obrien obrien obrien"),
    ],
)
def test_normalisation(text, expected):
    assert normalize(text) == expected
    assert normalize(normalize(text)) == expected


@pytest.mark.parametrize(
    ("text", "golds", "expected"),
    [
        ("The Beatles!", ["Beatles"], (1, 1, 1)),
        ("It was the Beatles of course", ["The Beatles"], (0, 2 / 6, 1)),
        ("Beatlesmania", ["Beatles"], (0, 0, 0)),
        ("in 1992", ["1992"], (0, 2 / 3, 1)),
        ("in 19921", ["1992"], (0, 0, 0)),
        ("big red", ["red big"], (0, 1, 0)),
        ("red", ["blue", "red"], (1, 1, 1)),
        ("cat cat cat", ["cat"], (0, 0.5, 1)),
        ("", ["red"], (0, 0, 0)),
        ("the", ["red"], (0, 0, 0)),
    ],
)
def test_grades(text, golds, expected):
    grades = grade_all(text, golds)
    assert (grades.exact_match, grades.f1, grades.contains) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "gold"),
    [
        ("10²", "102"),
        ("10²", "10"),
        ("H₂O", "H20"),
        ("1½", "11/2"),
        ("½", "12"),
        ("5①", "51"),
        ("5⑴", "51"),
        ("10²", "10^2"),
        ("10㎡", "10m2"),
        ("Hope\u06dd", "Hope"),
        ("\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f", "\U0001f3f4"),
    ],
)
def test_other_answers_stay_other(text, gold):
    assert grade_all(text, [gold]).exact_match == grade_all(gold, [text]).exact_match == 0.0


def test_what_shows_nothing_is_removed_and_nothing_else():
    """Unicode's property Default_Ignorable_Code_Point, by its derivation."""
    shown = {*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD}
    shown |= {*range(0xFFF9, 0xFFFC), *range(0x13430, 0x13440)}
    hidden = {n for n in range(0x110000) if unicodedata.category(chr(n)) == "Cf"} - shown
    hidden |= {0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180B, 0x180F, 0x3164, 0xFE0F, 0xFFA0}
    hidden |= {0xE0100, 0xE01EF, 0xE0061}
    for n in hidden | shown:
        assert (normalize(f"x{chr(n)}y") == "xy") == (n in hidden), hex(n)


def test_ascii_is_graded_as_squad_does():
    """The official script's steps, on every printable character."""

    def official(text):
        kept = "".join(char for char in text.lower() if char not in set(string.punctuation))
        return " ".join(re.sub(r"\b(a|an|the)\b", " ", kept).split())

    for char in map(chr, range(32, 127)):
        for text in (f"The 10{char}2 cats", f"an{char}owl", char, f"x {char} y the"):
            assert normalize(text) == official(text), text


def test_a_gold_that_normalises_to_nothing_is_compared_raw():
    assert grade_all(" the ", ["The"]) == Grades(1.0, 1.0, 1.0)
    assert grade_all("!", ["!"]) == Grades(1.0, 1.0, 1.0)
    assert grade_all("", ["!"]) == Grades(0.0, 0.0, 0.0)
    assert grade_all("?", ["!"]) == Grades(0.0, 0.0, 0.0)
    assert grade_all("it is the word", ["The"]).contains == 1.0


def test_verdicts():
    half = grade_all("in nineteen 1992", ["in 1992 or later"])
    assert half.f1 == pytest.approx(4 / 7)
    verdicts = {name: get_grader(name).verdict(half) for name in NAMES}
    assert verdicts == {"exact_match": False, "f1": True, "contains": False}
    assert not get_grader("f1").verdict(grade_all("x y z", ["x a b c"]))


@pytest.mark.parametrize("name", NAMES)
def test_every_grader_proves_itself_on_published_questions(shared_data, name):
    for file in ("train50", "val100"):
        for passage in json.loads((shared_data / "squad" / f"{file}.json").read_text("utf-8")):
            for item in passage["questions"]:
                get_grader(name).validate(Question("q", item["question"], (item["answer"],)))


def test_a_question_that_cannot_be_graded_is_refused():
    with pytest.raises(InputError, match=r"question 'Q\?': its own answer ' ' does not score 1"):
        validate_question(Question("q", "Q?", (" ",)))
    validate_question(Question("q", "Q?", ("The", "!", "%", "a b")))


def test_unknown_grader_lists_the_known():
    with pytest.raises(InputError, match="use one of exact_match, f1, contains"):
        get_grader("em")


def test_the_stated_normalisation_holds():
    page = (Path(__file__).parents[3] / "docs" / "rewards.md").read_text("utf-8")
    table = page.partition("| text | is compared as |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| `([^|]*)` \| `([^|]*)` \|", table, re.M)
    assert len(rows) >= 8
    for text, compared in rows:
        assert (
            normalize(text.encode().decode("unicode_escape") if "\\u" in text else text) == compared
        )


def test_every_grader_is_documented():
    page = (Path(__file__).parents[3] / "docs" / "rewards.md").read_text("utf-8")
    assert [name for name in Grades.__dataclass_fields__ if f"| `{name}` |" not in page] == []
