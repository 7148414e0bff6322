"""SQuAD files: every form gives the same problems, and every fault names place and fix."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seal_core.domains.left_out import left_out_lines
from seal_core.domains.records import RawQuestion
from seal_core.domains.squad import read_squad
from seal_core.errors import InputError

OFFICIAL = {
    "version": "1.1",
    "data": [
        {
            "title": "New_York",
            "paragraphs": [
                {
                    "context": "New York is big.",
                    "qas": [
                        {
                            "id": "1",
                            "question": "How big is it? ",
                            "answers": [
                                {"text": "big", "answer_start": 12},
                                {"text": "big"},
                                {"text": "very big"},
                            ],
                        }
                    ],
                },
                {
                    "context": "It has five parts.",
                    "qas": [{"id": "2", "question": "How many?", "answers": [{"text": "five"}]}],
                },
            ],
        }
    ],
}

HUB_ROWS: list[dict[str, Any]] = [
    {
        "id": "1",
        "title": "New_York",
        "context": "New York is big.",
        "question": "How big is it?",
        "answers": {"text": ["big", "big", "very big"], "answer_start": [12, 12, 0]},
    },
    {
        "id": "2",
        "title": "New_York",
        "context": "It has five parts.",
        "question": "How many?",
        "answers": {"text": ["five"], "answer_start": [7]},
    },
]

FLAT = [
    {
        "title": "New York",
        "context": "New York is big.",
        "questions": [{"question": "How big is it?", "answers": ["big", "very big"]}],
    },
    {
        "title": "New York",
        "context": "It has five parts.",
        "questions": [{"question": "How many?", "answer": "five"}],
    },
]


def lines(rows: list[Any]) -> str:
    return "\n".join(json.dumps(row) for row in rows) + "\n\n"


def content(path: str) -> list[tuple[Any, ...]]:
    return [(p.title, p.context, p.questions) for p in read_squad(path).problems]


EXPECTED = [
    ("New York", "New York is big.", (RawQuestion("How big is it?", ("big", "very big")),)),
    ("New York", "It has five parts.", (RawQuestion("How many?", ("five",)),)),
]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("flat.json", FLAT),
        ("flat.jsonl", lines(FLAT)),
        ("official.json", OFFICIAL),
        ("hub.json", HUB_ROWS),
        ("hub.jsonl", lines(HUB_ROWS)),
        ("bom.json", "\ufeff" + json.dumps(FLAT)),
        ("joined.jsonl", "\n".join("\ufeff" + json.dumps(row) for row in FLAT)),
    ],
)
def test_every_form_gives_the_same_passages(write, name, value):
    assert content(write(name, value)) == EXPECTED


@pytest.mark.parametrize("rows", [FLAT, HUB_ROWS, OFFICIAL["data"]], ids=["flat", "hub", "article"])
def test_parquet_of_each_form_gives_the_same_passages(tmp_path, rows):
    datasets = pytest.importorskip("datasets")
    path = tmp_path / "rows.parquet"
    datasets.Dataset.from_list(rows).to_parquet(str(path))
    assert content(str(path)) == EXPECTED


def test_rows_of_one_passage_are_grouped_even_when_apart(write):
    again = {**HUB_ROWS[0], "question": "Who?", "answers": {"text": ["nobody"]}}
    problems = read_squad(write("a.jsonl", lines([*HUB_ROWS, again]))).problems
    assert [len(p.questions) for p in problems] == [2, 1]


def test_the_same_question_asked_twice_accepts_both_answers(write):
    again = {**HUB_ROWS[1], "answers": {"text": ["5"]}}
    path = write("a.json", [*HUB_ROWS, again])
    problems = read_squad(path).problems
    assert problems[1].questions == (RawQuestion("How many?", ("five", "5")),)
    assert left_out(path) == [("question", f"a.json: row {len(HUB_ROWS) + 1}", "How many?")]


def test_published_files_have_their_passages_and_questions(shared_data):
    for name, n_problems, n_questions in (("train50", 50, 225), ("val100", 100, 483)):
        problems = read_squad(str(shared_data / "squad" / f"{name}.json")).problems
        assert len(problems) == n_problems
        assert sum(len(p.questions) for p in problems) == n_questions


def left_out(path: str) -> list[tuple[str, str, str]]:
    return [(item.unit, item.place, item.text) for item in read_squad(path).left_out]


def test_impossible_questions_are_left_out_and_named(write):
    article = {
        "title": "T",
        "paragraphs": [
            {
                "context": "One.",
                "qas": [
                    {"question": "Why?", "answers": [], "is_impossible": True},
                    {"question": "What?", "answers": [{"text": "One"}], "is_impossible": False},
                ],
            },
            {
                "context": "Two.",
                "qas": [{"question": "Why?", "answers": [], "is_impossible": True}],
            },
        ],
    }
    path = write("v2.json", {"data": [article]})
    assert len(read_squad(path).problems) == 1
    assert left_out(path) == [
        ("question", "v2.json: row 1, paragraph 1: qas[1]", "Why?"),
        ("question", "v2.json: row 1, paragraph 2: qas[1]", "Why?"),
        ("problem", "v2.json: row 1, paragraph 2", "T"),
    ]
    assert left_out_lines(read_squad(path).left_out) == [
        "left out 2 questions: the source says that they have no answer "
        "(v2.json: row 1, paragraph 1: qas[1]; v2.json: row 1, paragraph 2: qas[1])",
        "left out 1 problem: none of their questions has an answer (v2.json: row 1, paragraph 2)",
    ]
    hub = [HUB_ROWS[0], {**HUB_ROWS[1], "answers": {"text": [], "answer_start": []}}]
    assert left_out(write("hub.json", hub)) == [
        ("question", "hub.json: row 2", "How many?"),
        ("problem", "hub.json: row 2", "New York"),
    ]


@pytest.mark.parametrize("form", [HUB_ROWS[1], {"context": "C.", "questions": [{}]}])
@pytest.mark.parametrize("field", ["answer", "answers"])
@pytest.mark.parametrize("answer", [{"value": "five", "aliases": []}, {"texts": ["five"]}, {}])
def test_an_answer_of_another_form_is_not_an_impossible_question(write, form, field, answer):
    row = {key: value for key, value in form.items() if key != "answers"}
    if "questions" in row:
        row["questions"] = [{"question": "Q?", field: answer}]
    else:
        row[field] = answer
    with pytest.raises(InputError, match=rf"row 2.*: '{field}' is an object without 'text'"):
        read_squad(write("a.json", [{**HUB_ROWS[0]}, row]))


GOOD: dict[str, Any] = {
    "title": "T",
    "context": "C.",
    "questions": [{"question": "Q?", "answer": "A"}],
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"questions": []}, "a.json: row 2: 'questions' is empty"),
        ({"questions": "no"}, "a.json: row 2: 'questions' is of type str: it must be a list"),
        ({"questions": None}, "a.json: row 2: 'questions' is missing"),
        ({"questions": {"question": "Q"}}, "a.json: row 2: 'questions' is of type dict"),
        ({"questions": ["Q?"]}, r"a.json: row 2: questions\[1\]: it is not an object"),
        ({"context": " "}, "a.json: row 2: 'context' is blank"),
        ({"context": 3}, "a.json: row 2: 'context' is of type int"),
        ({"context": "C\0."}, "a.json: row 2: 'context' has a NUL character: remove it"),
        ({"title": 3}, "a.json: row 2: 'title' is of type int"),
        ({"context": "\ud800"}, "a.json: it is not JSON .unexpected end of hex escape at line 1"),
        ({"questions": [{"question": "Q?"}]}, r"row 2: questions\[1\]: 'answer' is missing"),
        ({"questions": [{"answer": "A"}]}, r"row 2: questions\[1\]: 'question' is missing"),
        (
            {"questions": [{"question": "Q?", "answer": "A", "answers": ["B"]}]},
            r"row 2: questions\[1\]: it has both 'answer' and 'answers': keep one of them",
        ),
        ({"paragraphs": []}, "row 2: it has both 'paragraphs' and 'questions'"),
        (
            {"questions": [{"question": "Q?", "answers": []}]},
            r"row 2: questions\[1\]: 'answers' is empty",
        ),
        (
            {"questions": [{"question": "Q?", "answer": " "}]},
            r"row 2: questions\[1\]: 'answer' is blank",
        ),
        (
            {"questions": [{"question": "Q?", "answer": 1990}]},
            r"row 2: questions\[1\]: 'answer' is of type int",
        ),
        (
            {"questions": [{"question": "Q?", "answers": ["A", 7]}]},
            r"row 2: questions\[1\]: 'answers' is of type int",
        ),
    ],
)
def test_a_bad_row_is_named_with_its_field(write, change, message):
    path = write("a.json", [{**GOOD, "context": "Other."}, {**GOOD, **change}])
    with pytest.raises(InputError, match=message):
        read_squad(path)


@pytest.mark.parametrize(
    ("old", "field"),
    [
        ('"context": "C."', "'context' is given twice: keep one of them"),
        ('"title": "T"', "'title' is given twice: keep one of them"),
        ('"answer": "A"', r"questions\[1\]: 'answer' is given twice"),
        ('"question": "Q?"', r"questions\[1\]: 'question' is given twice"),
    ],
)
@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_a_field_that_stands_twice_is_named(write, name, old, field):
    """Which of the two is meant, nobody knows."""
    row = json.dumps(GOOD).replace(old, f'{old}, {old[:-1]} again"')
    path = write(name, row if name == "a.jsonl" else f"[{row}]")
    with pytest.raises(InputError, match=f"{name}: row 1: {field}"):
        read_squad(path)


def test_fields_that_are_not_read_may_not_stand_twice_either(write):
    path = write("a.jsonl", "\n" + json.dumps(GOOD)[:-1] + ', "m": [{"id": 1, "id": 2}]}')
    with pytest.raises(InputError, match=r"a.jsonl: row 2: m\[1\]: 'id' is given twice"):
        read_squad(path)
    text = json.dumps(OFFICIAL)
    for old, said in (
        ('"version": "1.1"', "official.json: 'version' is given twice: keep one of them"),
        ('"id": "2"', r"official.json: data\[1\].paragraphs\[2\].qas\[1\]: 'id' is given twice"),
    ):
        with pytest.raises(InputError, match=said):
            read_squad(write("official.json", text.replace(old, f"{old}, {old}")))
    with pytest.raises(InputError, match=r"official.json: 'data' is given twice"):
        read_squad(write("official.json", text[:-1] + ', "data": []}'))


@pytest.mark.parametrize("flag", [1, "yes", [True]])
def test_a_flag_that_is_none_is_refused(write, flag):
    """Kept, it would be a question without a right answer."""
    item = {"question": "Q?", "answer": "A", "is_impossible": flag}
    with pytest.raises(InputError, match=r"'is_impossible' is .*: it must be true or false"):
        read_squad(write("a.json", [{**GOOD, "questions": [item]}]))


def test_a_parquet_file_with_broken_text_names_the_row(tmp_path):
    texts = pa.array([b"fine", b"\xe9\xff"], pa.binary())
    context = pa.StringArray.from_buffers(2, *texts.buffers()[1:])
    asked = pa.array([[{"question": "Q?", "answer": "A"}]] * 2)
    file = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"context": context, "questions": asked}), file)
    with pytest.raises(InputError, match=r"rows.parquet: row 2: it cannot be read .*0xe9"):
        read_squad(str(file))


def test_duplicate_passages_name_both_positions(write):
    with pytest.raises(InputError, match=r"row 2.*same passage as a.json: row 1: remove one"):
        read_squad(write("a.json", [GOOD, GOOD]))
    other = {**GOOD, "context": " C. ", "questions": [{"question": "R?", "answer": "B"}]}
    with pytest.raises(InputError, match=r"row 2.*row 1: put all its questions into one row"):
        read_squad(write("a.json", [GOOD, other]))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("a.csv", "x", r"the ending '.csv' is not known: use one of .json, .jsonl, .parquet"),
        ("a.json", "", "the file is empty"),
        ("a.json", "[]", "there are no rows"),
        ("a.json", "{", "it is not JSON"),
        ("a.json", '{"a": 1}\n{"a": 2}', "rename it to .jsonl"),
        ("a.json", '{"a": 1}', "its top level must be a list"),
        ("a.json", "[3]", "row 1: it is of type int, not an object"),
        ("a.json", '[{"text": "x"}]', r"row 1: 'questions' is missing \(it has 'text'\)"),
        ("a.jsonl", '{"a": 1', "row 1: it is not JSON"),
        ("a.parquet", "nonsense", "it is not a Parquet file"),
        ("a.json", '[{"a": 1},\n {"a": ' + "9" * 5000 + "}]", r"a.json: .*out of range at line 2"),
        ("a.jsonl", "\n" + '{"a": ' + "9" * 5000 + "}", r"a.jsonl: row 2: .*number out of range"),
        ("a.json", "[" * 100_000 + "]" * 100_000, r"a.json: .*recursion limit .*at line 1"),
        ("a.jsonl", "[" * 100_000 + "]" * 100_000, r"a.jsonl: row 1: .*recursion limit"),
        ("a.json", '[\n{"title": NaN}]', r"a.json: it is not JSON \(.*line 2 column"),
        ("a.json", '["a\0b"]', r"a.json: it is not JSON \(control character"),
    ],
)
def test_a_bad_file_is_one_line_with_the_fix(write, name, value, message):
    with pytest.raises(InputError, match=message) as caught:
        read_squad(write(name, value))
    assert "\n" not in str(caught.value)


def test_missing_file_folder_and_wrong_encoding(tmp_path):
    with pytest.raises(InputError, match=r"no such file: check data\.path"):
        read_squad(str(tmp_path / "none.json"))
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(InputError, match="it is a folder"):
        read_squad(str(tmp_path / "folder.json"))
    (tmp_path / "latin.json").write_bytes('[\n"é"]'.encode("latin-1"))
    with pytest.raises(InputError, match=r"latin.json: line 2: it is not UTF-8 \(byte 0xe9\)"):
        read_squad(str(tmp_path / "latin.json"))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_another_encoding_is_named(tmp_path, name, encoding):
    file = tmp_path / name
    file.write_text(json.dumps(FLAT), encoding=encoding)
    said = f"{name}: it is {encoding.upper()}, not UTF-8: save it as UTF-8"
    with pytest.raises(InputError, match=said):
        read_squad(str(file))
