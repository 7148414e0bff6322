"""Problem sets: ids come from content, limits and shares hold, no passage is in both sets."""

from __future__ import annotations

import pytest

from seal_core.config import DataSection
from seal_core.domains.knowledge import load_problem_set
from seal_core.errors import InputError


def squad(path: str, **settings) -> DataSection:
    return DataSection(source="squad", path=path, **settings)


def ids(problems) -> list[str]:
    return [p.problem_id for p in problems]


def test_the_last_share_is_held_out(write, flat_rows):
    found = load_problem_set(squad(write("a.json", flat_rows), heldout_share=0.25), seed=0)
    assert [p.title for p in found.train] == [f"Title {i}" for i in range(6)]
    assert [p.title for p in found.heldout] == ["Title 6", "Title 7"]
    assert {p.split for p in found.train} == {"train"}
    assert {p.split for p in found.heldout} == {"heldout"}


@pytest.mark.parametrize(
    ("settings", "n_train", "n_heldout"),
    [
        ({"heldout_share": 0.001}, 7, 1),
        ({"heldout_share": 0.999}, 1, 7),
        ({"limit": 4}, 3, 1),
        ({"limit": 2}, 1, 1),
        ({"heldout_share": 0.5, "heldout_limit": 3}, 4, 3),
    ],
)
def test_limits_and_shares(write, flat_rows, settings, n_train, n_heldout):
    found = load_problem_set(squad(write("a.json", flat_rows), **settings), seed=0)
    assert (len(found.train), len(found.heldout)) == (n_train, n_heldout)


def test_what_is_beyond_a_limit_is_told(write, flat_rows):
    path = write("a.json", flat_rows)
    data = squad(path, limit=6, heldout_share=0.5, heldout_limit=2, max_questions=1)
    found = load_problem_set(data, seed=0)
    assert [(item.unit, item.place, item.reason) for item in found.left_out] == [
        ("problem", "a.json: row 7", "beyond data.limit = 6"),
        ("problem", "a.json: row 8", "beyond data.limit = 6"),
        ("problem", "a.json: row 6", "beyond data.heldout_limit = 2"),
        *(
            ("question", f"a.json: row {i}", "beyond data.max_questions = 1")
            for i in (1, 2, 3, 4, 5)
        ),
    ]
    assert found.left_out[0].text == "Title 6" and found.left_out[3].text == "What is 0.1?"
    assert load_problem_set(squad(path), seed=0).left_out == ()


def test_one_problem_needs_a_heldout_path(write, flat_rows):
    path = write("a.json", flat_rows[:1])
    with pytest.raises(InputError, match=r"set data\.heldout_path"):
        load_problem_set(squad(path), seed=0)
    other = write("b.json", flat_rows[1:])
    found = load_problem_set(squad(path, heldout_path=other, heldout_limit=2), seed=0)
    assert (len(found.train), len(found.heldout)) == (1, 2)


def test_a_question_that_cannot_be_graded_is_named_by_its_row(write, flat_rows):
    flat_rows[2]["questions"][0]["answer"] = "\u200b"
    with pytest.raises(
        InputError, match=r"a.json: row 3: question 'What is 2.0\?': its own answer"
    ):
        load_problem_set(squad(write("a.json", flat_rows)), seed=0)


def test_a_passage_in_both_sets_is_refused(write, flat_rows):
    path = write("a.json", flat_rows[:3])
    moved = {**flat_rows[2], "context": flat_rows[2]["context"] + "  \n", "title": "Other"}
    other = write("b.json", [flat_rows[5], moved])
    with pytest.raises(InputError, match=r"b.json: row 2: .* a training passage \(a.json: row 3\)"):
        load_problem_set(squad(path, heldout_path=other), seed=0)


def test_ids_depend_on_content_not_on_path_order_or_split(write, flat_rows):
    one = load_problem_set(squad(write("a.json", flat_rows)), seed=0)
    two = load_problem_set(squad(write("moved.json", flat_rows[::-1])), seed=7)
    assert set(ids(one.train + one.heldout)) == set(ids(two.train + two.heldout))
    changed = [{**flat_rows[0], "title": "New"}, *flat_rows[1:]]
    three = load_problem_set(squad(write("b.json", changed)), seed=0)
    assert ids(one.train)[1:] == ids(three.train)[1:]
    assert ids(one.train)[0] != ids(three.train)[0]


def test_question_ids_are_unique_and_max_questions_cuts(write, flat_rows):
    path = write("a.json", flat_rows)
    found = load_problem_set(squad(path, max_questions=1), seed=0)
    assert {len(p.questions) for p in found.train} == {1}
    every = load_problem_set(squad(path), seed=0)
    questions = [q.question_id for p in every.train + every.heldout for q in p.questions]
    assert len(set(questions)) == len(questions) == 16


def test_gold_of_an_article_or_a_mark_is_accepted(write, flat_rows):
    flat_rows[0]["questions"] = [
        {"question": "Which word?", "answer": "The"},
        {"question": "Which mark?", "answer": "!"},
    ]
    found = load_problem_set(squad(write("a.json", flat_rows)), seed=0)
    assert [q.gold for q in found.train[0].questions] == [("The",), ("!",)]


def test_the_embedded_world_has_its_own_sets():
    found = load_problem_set(DataSection(), seed=3)
    assert (len(found.train), len(found.heldout)) == (60, 100)
    again = load_problem_set(DataSection(limit=5, heldout_limit=4), seed=3)
    assert ids(again.train) == ids(found.train)[:5]
    assert ids(again.heldout) == ids(found.heldout)[:4]
    assert ids(load_problem_set(DataSection(limit=5), seed=4).train) != ids(again.train)
    with pytest.raises(InputError, match=r"lower data\.limit"):
        load_problem_set(DataSection(limit=10**6), seed=0)


def test_published_files_give_a_problem_set(shared_data):
    data = squad(
        str(shared_data / "squad" / "train50.json"),
        heldout_path=str(shared_data / "squad" / "val100.json"),
    )
    found = load_problem_set(data, seed=0)
    assert (len(found.train), len(found.heldout)) == (50, 100)
    assert [(item.unit, item.place) for item in found.left_out] == [
        ("question", "val100.json: row 97: questions[7]")
    ]
