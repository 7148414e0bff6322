"""Published result files become nouns, word for word; a wrong one is refused with its place.

1. Texts, verdicts and settings are the file's own; what it does not say is None.
2. Scores follow from the verdicts, rounded as published; ties go to the earlier self-edit.
3. Cells that were not measured are no accuracy of 0.
4. Every mistake is one line that names file and place.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seal_core.domains.rows import rows_digest
from seal_core.errors import InputError
from seal_core.published.records import PublishedRun, read_published
from seal_core.types import TrainRow
from tests.published_files import (
    continual_file,
    eval_file,
    pretraining_file,
    save,
    statistics_file,
    train_file,
)


@pytest.fixture
def read(tmp_path: Path) -> Callable[[Any], PublishedRun]:
    return lambda content: read_published(save(tmp_path / "file.json", content))


def test_a_training_file(read: Callable[[Any], PublishedRun]) -> None:
    """1"""
    run = read(train_file())
    assert run.kind == "train"
    assert [e.text for e in run.self_edits][:2] == [
        "\n Line 00. \n\nMore.",
        "\n Line 01. \n\nMore.",
    ]
    assert {(e.split, e.condition, e.prompt_id) for e in run.self_edits} == {
        ("train", "round_0", "unknown")
    }
    assert [(a.self_edit_id, a.repeat) for a in run.adapters] == [
        (e.self_edit_id, r) for e in run.self_edits for r in range(2)
    ]
    first = run.adapters[0]
    rows = [TrainRow(f"T0\n{text}") for text in ("Line 00.", "More.", "Passage 0.")]
    assert first.rows_sha256 == rows_digest(rows)
    # Three rows in batches of two, three epochs.
    assert (first.rank, first.n_rows, first.n_steps) == (4, 3, 6)
    assert (first.uri, first.sha256, first.seed, first.n_tokens, first.first_loss) == (None,) * 5
    assert [(p.base_model, p.model_digest) for p in run.policies] == [("tiny", None)]


def test_every_answer_is_kept_with_its_verdict(read: Callable[[Any], PublishedRun]) -> None:
    """1"""
    run = read(train_file())
    assert len(run.answers) == len(run.baseline) == 16
    assert len({a.answer_id for a in run.answers + run.baseline}) == 32
    assert {a.grader for a in run.answers + run.baseline} == {"published"}
    for answer in run.answers:
        assert answer.correct is (answer.text != "") and answer.error is None
        assert answer.grades["exact_match"] == float(answer.text != "")
    asked = [
        (a.repeat, a.text) for a in run.baseline if a.question_id == run.answers[0].question_id
    ]
    # Asked beside each training: two self-edits, two repeats.
    assert asked == [(0, "before 000"), (1, "before 010"), (2, "before 100"), (3, "before 110")]
    assert {(a.condition, a.adapter_id, a.correct) for a in run.baseline} == {
        ("no_adaptation", None, False)
    }


def test_scores_and_selections(read: Callable[[Any], PublishedRun]) -> None:
    """2"""
    run = read(train_file())
    assert [s.reward for s in run.scores] == [0.5, 0.5, 0.25, 0.75]
    assert [s.uncertainty for s in run.scores] == [0.0, 0.0, 0.25, 0.25]
    assert [s.kept for s in run.selections] == [True, False, False, True]
    assert {s.rule for s in run.selections} == {"best_of_k(min_gain=None)"}
    assert "best of its problem" in run.selections[0].reason
    thirds = train_file()
    for article in thirds["articles"]:
        for completion in article["completions"]:
            asked = completion["questions"]
            asked += [{**q, "question": "Third?"} for q in asked[::2]]
    # 2/3 in each repeat, rounded to four digits before averaging.
    assert read(thirds).scores[0].reward == 0.6667


def test_an_evaluation_file(read: Callable[[Any], PublishedRun]) -> None:
    """1"""
    run = read(eval_file())
    assert run.kind == "heldout" and run.selections == []
    assert {e.split for e in run.self_edits} == {a.split for a in run.baseline} == {"heldout"}
    assert [s.reward for s in run.scores] == [0.5, 1.0]


def test_rows_that_are_not_certain_have_no_digest(read: Callable[[Any], PublishedRun]) -> None:
    """1"""
    content = eval_file()
    content["articles"][0]["completions"][0]["text"] = "Thoughts.\nImplications:\n1. One."
    content["articles"][1]["completions"][0]["text"] = "Implications:\nOne."
    first, second = read(content).adapters
    assert (first.rows_sha256, first.n_rows, first.n_steps) == (None, None, None)
    assert second.rows_sha256 is not None and second.n_rows == 3
    content["split_newlines"] = False
    content["articles"][1]["completions"][0]["text"] = "One.\n---\nTwo."
    assert [a.rows_sha256 for a in read(content).adapters] == [None, None]


def test_a_continual_file(read: Callable[[Any], PublishedRun]) -> None:
    """3"""
    run = read(continual_file())
    assert run.kind == "continual" and run.answers == []
    assert [(c.step, c.passage_index, c.accuracy, c.accuracy_sd) for c in run.continual] == [
        (0, 0, 0.1, 0.01),
        (0, 1, 0.2, 0.02),
        (1, 0, 0.5, 0.03),
        (2, 0, 0.25, 0.04),
        (2, 1, 0.75, 0.05),
    ]
    assert {c.n_sequences for c in run.continual} == {4}


def test_a_file_with_statistics_only(read: Callable[[Any], PublishedRun]) -> None:
    """1, 2: scores and selections follow from the statistics; no answer is made up."""
    run, whole = read(statistics_file()), read(train_file())
    assert run.kind == "train" and run.answers == run.baseline == []
    assert [p.questions for p in run.problems] == [(), ()]
    assert [e.text for e in run.self_edits] == [e.text for e in whole.self_edits]
    assert [a.rows_sha256 for a in run.adapters] == [a.rows_sha256 for a in whole.adapters]
    assert [(s.reward, s.baseline_reward, s.gain) for s in run.scores] == [
        (0.5, 0.25, 0.25),
        (0.5, 0.25, 0.25),
        (0.25, 0.25, 0.0),
        (0.75, 0.25, 0.5),
    ]
    assert [s.uncertainty for s in run.scores] == pytest.approx([0.1] * 4, abs=1e-4)
    assert {(s.n_repeats, s.n_answers, s.n_errors) for s in run.scores} == {(2, 0, 0)}
    assert [s.kept for s in run.selections] == [s.kept for s in whole.selections]


def test_statistics_beside_answers(read: Callable[[Any], PublishedRun]) -> None:
    """1, 2: only a self-edit without answers is scored by its statistics."""
    content = train_file()
    content["articles"][0]["completions"][0] = statistics_file()["articles"][0]["completions"][1]
    content["articles"][0]["completions"][0]["stats"]["adapter_std"] = None
    run, whole = read(content), read(train_file())
    assert run.problems == whole.problems and run.scores[1:] == whole.scores[1:]
    assert (run.scores[0].reward, run.scores[0].uncertainty) == (0.5, None)
    assert len(run.answers) == 12


def test_a_pretraining_file(read: Callable[[Any], PublishedRun]) -> None:
    """1: two policies and their answers; what the questions were is not told."""
    run = read(pretraining_file())
    assert run.kind == "pretraining" and run.problems == run.self_edits == run.adapters == []
    base, trained = run.policies
    assert (base.parent, base.base_model, base.n_steps) == (None, "unknown", None)
    # Ten rows in three batches of four, two batches a step, three epochs.
    assert (trained.parent, trained.n_examples, trained.n_steps) == (base.policy_id, 10, 6)
    for answers, policy, condition, texts, verdicts in (
        (run.baseline, base, "no_adaptation", ["a", "", "c"], [False, False, True]),
        (run.answers, trained, "continued_pretraining", ["d", "e", "f"], [True, False, True]),
    ):
        assert [a.text for a in answers] == texts and [a.correct for a in answers] == verdicts
        assert {(a.policy_id, a.condition, a.split) for a in answers} == {
            (policy.policy_id, condition, "heldout")
        }
        assert {(a.adapter_id, a.grades) for a in answers} == {(None, None)}
    asked = [a.question_id for a in run.baseline]
    assert asked == [a.question_id for a in run.answers] and len(set(asked)) == 3
    assert len({a.problem_id for a in run.baseline + run.answers}) == 1


def _set(content: Any, path: str, value: Any) -> Any:
    """A copy with one value replaced; `...` removes it."""
    content = copy.deepcopy(content)
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    place = content
    for part in parents:
        place = place[part]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return content


QUESTION = "articles.1.completions.0.questions.2"
WRONG = [
    ("articles", [], "articles: list should have at least 1 item"),
    ("articles", {}, "articles: input should be a valid list"),
    ("n_articles", 3, "n_articles is 3, but there are 2 articles"),
    ("k_completions", ..., "k_completions is missing"),
    ("k_completions", 1, "articles[0] has 2 completions, but k_completions is 1"),
    ("eval_times", "2", "eval_times: input should be a valid integer"),
    ("exp_name", ..., "exp_name is missing"),
    ("lora_params.rank", 0, "lora_params.rank: input should be greater than or equal to 1"),
    ("lora_params.rank", 2**70, "lora_params.rank: "),
    ("lora_params.lr", float("nan"), "it is not JSON"),
    ("lora_params", ..., "lora_params is missing"),
    ("articles.0.context", "", "articles[0].context: string should have at least 1 character"),
    ("articles.0.completions.1.text", None, "articles[0].completions[1].text: input should be a"),
    ("articles.0.completions.1.questions", [], "articles[0].completions[1]: questions is empty"),
    ("articles.0.completions.1.questions", ..., "articles[0].completions[1].questions is missing"),
    ("articles.0.completions.1.stats", {"adapter_mean": 2}, "completions[1].stats.adapter_mean: "),
    (f"{QUESTION}.adapter_correct", 1, "articles[1].completions[0].questions[2].adapter_correct: "),
    (
        f"{QUESTION}.adapter_answer",
        ...,
        "articles[1].completions[0].questions[2].adapter_answer is",
    ),
    (f"{QUESTION}.rep", 2, "articles[1].completions[0].questions[2].rep is 2, but eval_times is 2"),
    (f"{QUESTION}.rep", 0, "articles[1].completions[0]: repeat 1 has other questions"),
    (f"{QUESTION}.question", "Other?", "articles[1].completions[0]: repeat 1 has other questions"),
    ("articles.1", train_file()["articles"][0], "articles[1] is the same problem as articles[0]"),
]
WRONG_PRETRAINING = [
    ("eval_questions", 4, "server_reply.baseline_texts has 3 values, but eval_questions is 4"),
    ("server_reply.adapter_correct", [True], "server_reply.adapter_correct has 1 values, but"),
    ("server_reply.adapter_correct.1", True, "overall.adapter_accuracy is 0.6667, but the mean"),
    ("server_reply.adapter_correct.1", 1, "server_reply.adapter_correct[1]: input should be a"),
    ("server_reply.baseline_texts", ..., "server_reply.baseline_texts is missing"),
    ("train_sequences", ..., "train_sequences is missing"),
]
WRONG_MATRIX = [
    ("mean_over_sequences.1", [0.5], "mean_over_sequences is not of 3 rows with 2 values"),
    ("std_over_sequences", [], "std_over_sequences is not of 3 rows with 2 values"),
    ("mean_over_sequences.0.1", 1.5, "mean_over_sequences[0][1]: input should be less than"),
    ("mean_over_sequences.0.1", "1", "mean_over_sequences[0][1]: input should be a valid number"),
    ("mean_over_sequences.1.1", 0.5, "passage 1 is not learnt after 1 steps"),
    ("n_sequences", True, "n_sequences: input should be a valid integer"),
    ("base_model", ..., "base_model is missing"),
]


@pytest.mark.parametrize(
    ("content", "path", "value", "message"),
    [(train_file(), *case) for case in WRONG]
    + [(pretraining_file(), *case) for case in WRONG_PRETRAINING]
    + [(continual_file(), *case) for case in WRONG_MATRIX],
    ids=[f"{case[0]}-{i}" for i, case in enumerate(WRONG + WRONG_PRETRAINING + WRONG_MATRIX)],
)
def test_mistakes(tmp_path: Path, content: Any, path: str, value: Any, message: str) -> None:
    """4"""
    file = save(tmp_path / "file.json", _set(content, path, value))
    with pytest.raises(InputError) as caught:
        read_published(file)
    said = str(caught.value)
    assert said.startswith(f"{file}: ") and message in said and "\n" not in said


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not JSON"),
        (b'{"articles": [', "not JSON"),
        (b"\xff\xfe", "it is UTF-16, not UTF-8"),
        ('{"a": 1}'.encode("utf-16-le"), "it is UTF-16-LE, not UTF-8"),
        (b'{"a":\n"\xe9"}', "line 2: it is not UTF-8 .byte 0xe9."),
        (b'{"articles": ' + b"9" * 5000 + b"}", "not JSON: number out of range at line 1"),
        (b"[" * 10**6, "not JSON"),
        (b'{"articles": "\\ud800"}', "not JSON"),
        (b"[]", "no result file of the reference implementation"),
        (b'{"data": []}', "none of 'articles', 'server_reply', 'mean_over_sequences'"),
        (b"3", "no result file"),
    ],
)
def test_files_of_another_kind(tmp_path: Path, data: bytes, message: str) -> None:
    """4"""
    file = tmp_path / "file.json"
    file.write_bytes(data)
    with pytest.raises(InputError, match=message) as caught:
        read_published(file)
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    """4"""
    for path, message in ((tmp_path, "a folder"), (tmp_path / "none.json", "no such file")):
        with pytest.raises(InputError, match=message):
            read_published(path)
