"""Parses rows of question data, in any of the known forms, into passages with questions.

Forms: *flat* (`title, context, questions: [{question, answer}]`), *article* (official SQuAD:
`title, paragraphs: [{context, qas}]`) and *question* (Hugging Face `squad`: one question per
row). A row's form is told by its fields, so one parser serves files and data sets alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from seal_core.errors import InputError
from seal_core.types import LeftOut

ROW_FIELDS = ("paragraphs", "questions", "question")
ANSWER_FIELDS = ("answer", "answers")
_NO_ANSWER = "the source says that they have no answer"
_NO_QUESTION = "none of their questions has an answer"
_ASKED_BEFORE = "asked before about the same passage, where their answers are accepted too"
_FORMS = (
    "give each row 'title', 'context' and 'questions' (a list of {question, answer}), "
    "or use SQuAD's own form (see docs/data.md)"
)


@dataclass(frozen=True, slots=True)
class RawQuestion:
    """A question and its accepted answers, in the order of the source, without repeats."""

    text: str
    golds: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RawProblem:
    """A passage with its questions, and `where` it stands, for messages."""

    where: str
    title: str
    context: str
    questions: tuple[RawQuestion, ...]
    mergeable: bool = False


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a source holds.

    Attributes:
        problems: At least one.
        left_out: Questions that SQuAD 2 marks as unanswerable, passages that have no others, and
            questions that are asked twice.
    """

    problems: tuple[RawProblem, ...]
    left_out: tuple[LeftOut, ...] = ()


def parse_records(source: str, rows: Iterable[tuple[str, Any]]) -> Parsed:
    """Parses all rows of a source.

    Args:
        source: Name of the source, for messages.
        rows: Position ("train.json: row 3") and value of each row.

    Raises:
        InputError: for the first bad row; names position, field and fix.
    """
    by_context: dict[str, RawProblem] = {}
    left_out: list[LeftOut] = []
    for where, row in rows:
        for piece in _pieces(where, row, left_out):
            key = context_key(piece.context)
            first = by_context.get(key)
            by_context[key] = piece if first is None else _merge(first, piece, left_out)
    if not by_context:
        raise InputError(f"{source}: there are no rows: {_FORMS}")
    problems = tuple(problem for problem in by_context.values() if problem.questions)
    left_out += [
        LeftOut("problem", problem.where, problem.title, _NO_QUESTION)
        for problem in by_context.values()
        if not problem.questions
    ]
    if not problems:
        raise InputError(f"{source}: none of its questions has an answer: use SQuAD 1.1")
    return Parsed(problems, tuple(left_out))


def context_key(context: str) -> str:
    """A passage's text up to whitespace: equal keys mean the same passage."""
    return " ".join(context.split())


def _pieces(where: str, row: Any, left_out: list[LeftOut]) -> Iterator[RawProblem]:
    """The passages of one row; adds their questions that cannot be used to `left_out`."""
    if not isinstance(row, Mapping):
        raise InputError(f"{where}: it is {_kind(row)}, not an object: {_FORMS}")
    _one_of(where, row, *ROW_FIELDS)
    if "paragraphs" in row:
        yield from _article(where, row, left_out)
    elif "questions" in row:
        yield _flat(where, row, left_out)
    elif "question" in row:
        yield _single(where, row, left_out)
    else:
        fields = ", ".join(map(repr, row)) or "none"
        raise InputError(f"{where}: 'questions' is missing (it has {fields}): {_FORMS}")


def _flat(where: str, row: Mapping[str, Any], left_out: list[LeftOut]) -> RawProblem:
    items = _list(where, "questions", _rows_of_columns(row["questions"]))
    questions = _questions(where, "questions", items, left_out)
    title = _title(where, row)
    return RawProblem(where, title, _text(where, "context", row.get("context")), questions)


def _article(where: str, row: Mapping[str, Any], left_out: list[LeftOut]) -> Iterator[RawProblem]:
    title = _wiki_title(where, row)
    for i, paragraph in enumerate(_list(where, "paragraphs", row["paragraphs"]), start=1):
        place = f"{where}, paragraph {i}"
        if not isinstance(paragraph, Mapping):
            raise InputError(f"{place}: it is not an object: {_FORMS}")
        context = _text(place, "context", paragraph.get("context"))
        items = _list(place, "qas", paragraph.get("qas"))
        questions = _questions(place, "qas", items, left_out)
        yield RawProblem(place, title, context, questions, mergeable=True)


def _single(where: str, row: Mapping[str, Any], left_out: list[LeftOut]) -> RawProblem:
    context = _text(where, "context", row.get("context"))
    answers = row.get(_one_of(where, row, *ANSWER_FIELDS))
    # The hub's squad_v2 has no 'is_impossible': an empty 'text' is how it says so.
    if isinstance(answers, Mapping) and "text" in answers and not answers["text"]:
        questions: tuple[RawQuestion, ...] = ()
        left_out.append(_unanswerable(where, row))
    else:
        questions = _questions(where, None, [row], left_out)
    return RawProblem(where, _wiki_title(where, row), context, questions, mergeable=True)


def _questions(
    where: str, field: str | None, items: list[Any], left_out: list[LeftOut]
) -> tuple[RawQuestion, ...]:
    kept: dict[str, RawQuestion] = {}
    for i, item in enumerate(items, start=1):
        place = f"{where}: {field}[{i}]" if field else where
        if not isinstance(item, Mapping):
            raise InputError(f"{place}: it is not an object with 'question' and 'answer'")
        if _flag(place, "is_impossible", item.get("is_impossible")):
            left_out.append(_unanswerable(place, item))
            continue
        question = RawQuestion(
            _text(place, "question", item.get("question")).strip(), _golds(place, item)
        )
        kept[question.text] = _unite(kept.get(question.text), question, place, left_out)
    return tuple(kept.values())


def _unanswerable(where: str, item: Mapping[str, Any]) -> LeftOut:
    text = item.get("question")
    # Nothing has checked it, and half of a surrogate pair cannot be stored.
    shown = text.encode(errors="replace").decode() if isinstance(text, str) else ""
    return LeftOut("question", where, shown, _NO_ANSWER)


def _golds(where: str, item: Mapping[str, Any]) -> tuple[str, ...]:
    field = _one_of(where, item, *ANSWER_FIELDS)
    value = item.get(field)
    value = _answer_text(where, field, value)
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, (list, tuple)):
        raise InputError(
            f"{where}: {field!r} is {_kind(value)}: give a text, a list of texts, "
            "or SQuAD's {'text': [...]}"
        )
    if not value:
        raise InputError(f"{where}: {field!r} is empty: give at least one accepted answer")
    texts = (_text(where, field, _answer_text(where, field, part)) for part in value)
    return tuple(dict.fromkeys(text.strip() for text in texts))


def _answer_text(where: str, field: str, value: Any) -> Any:
    """An answer, or what SQuAD's object for one has as its text."""
    if not isinstance(value, Mapping):
        return value
    if "text" not in value:
        found = ", ".join(map(repr, value)) or "none"
        raise InputError(
            f"{where}: {field!r} is an object without 'text' (it has {found}): give a text, "
            "a list of texts, or SQuAD's {'text': [...]}"
        )
    return value["text"]


def _merge(first: RawProblem, other: RawProblem, left_out: list[LeftOut]) -> RawProblem:
    """Joins questions about one passage; refuses it where the form has one row per passage."""
    if not (first.mergeable and other.mergeable):
        same = first.questions == other.questions
        fix = "remove one of them" if same else "put all its questions into one row"
        raise InputError(f"{other.where}: it has the same passage as {first.where}: {fix}")
    kept = {question.text: question for question in first.questions}
    for question in other.questions:
        known = kept.get(question.text)
        kept[question.text] = _unite(known, question, other.where, left_out)
    return replace(first, questions=tuple(kept.values()))


def _unite(
    first: RawQuestion | None, other: RawQuestion, where: str, left_out: list[LeftOut]
) -> RawQuestion:
    """The same question asked twice is one question that accepts both answers."""
    if first is None:
        return other
    left_out.append(LeftOut("question", where, other.text, _ASKED_BEFORE))
    return replace(first, golds=tuple(dict.fromkeys(first.golds + other.golds)))


def _rows_of_columns(value: Any) -> Any:
    """Undoes `datasets`' storage of a list of objects as an object of lists of one length."""
    if not isinstance(value, Mapping) or not all(isinstance(v, list) for v in value.values()):
        return value
    if len({len(column) for column in value.values()}) != 1:
        return value
    return [dict(zip(value, row, strict=True)) for row in zip(*value.values(), strict=True)]


def _list(where: str, field: str, value: Any) -> list[Any]:
    if not isinstance(value, (list, tuple)):
        raise InputError(f"{where}: {field!r} is {_kind(value)}: it must be a list")
    if not value:
        raise InputError(
            f"{where}: {field!r} is empty: give at least one question, or remove the row"
        )
    return list(value)


def _wiki_title(where: str, row: Mapping[str, Any]) -> str:
    """SQuAD's titles are Wikipedia page names, which have underscores for spaces."""
    return _title(where, row).replace("_", " ")


def _title(where: str, row: Mapping[str, Any]) -> str:
    """A passage may have no title."""
    value = row.get("title")
    return "" if value is None else _text(where, "title", value, blank=True)


def _flag(where: str, field: str, value: Any) -> bool:
    """A flag may be missing; CSV has texts for them."""
    if value is None or isinstance(value, bool):
        return bool(value)
    if not isinstance(value, str) or value.lower() not in ("", "false", "true"):
        raise InputError(f"{where}: {field!r} is {value!r:.40}: it must be true or false")
    return value.lower() == "true"


def _text(where: str, field: str, value: Any, blank: bool = False) -> str:
    if not isinstance(value, str):
        raise InputError(f"{where}: {field!r} is {_kind(value)}: it must be a text")
    if not blank and not value.strip():
        raise InputError(f"{where}: {field!r} is blank: fill it in, or remove the row")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InputError(
            f"{where}: {field!r} has a broken character (half of a surrogate pair): "
            "save the file as UTF-8 again"
        ) from None
    if "\0" in value:
        raise InputError(f"{where}: {field!r} has a NUL character: remove it")
    return value


def _one_of(where: str, row: Mapping[str, Any], *names: str) -> str:
    """The one of these fields that a row has, or the first; of two, nobody knows which is meant."""
    found = [name for name in names if row.get(name) is not None]
    if len(found) > 1:
        raise InputError(f"{where}: it has both {found[0]!r} and {found[1]!r}: keep one of them")
    return [*found, names[0]][0]


def _kind(value: Any) -> str:
    return "missing" if value is None else f"of type {type(value).__name__}"
