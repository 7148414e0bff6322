"""The JSON that the reference implementation writes, and its check, field by field.

Three forms: *results* (`query_server.py`: articles with self-edits, each asked about several
times), *pretraining* (`CPT.py`: one training on all passages) and *continual*
(`continual_self_edits.py`: a matrix of mean accuracies). Fields that are not used may be there or
not; those below must be, with values of the right type.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from seal_core.domains.json_text import decode_text
from seal_core.errors import InputError

Count = Annotated[int, Field(ge=1, le=2**31 - 1)]
Index = Annotated[int, Field(ge=0, le=2**31 - 1)]
Positive = Annotated[float, Field(gt=0.0)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


class Form(BaseModel):
    """Base of all parts: types as they are written, nothing converted; no NaN."""

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)


class Asked(Form):
    """One question, put to the policy without and with the adapter of one training repeat."""

    rep: Index
    question: str
    answer: str
    baseline_answer: str
    adapter_answer: str
    baseline_correct: bool
    adapter_correct: bool


class Stats(Form):
    """Means over a self-edit's answers, each repeat's rounded to four digits before."""

    baseline_mean: Fraction | None = None
    adapter_mean: Fraction | None = None
    adapter_std: Annotated[float, Field(ge=0.0)] | None = None


class Completion(Form):
    """One self-edit; some files keep the statistics of its answers only."""

    text: str
    stats: Stats = Stats()
    questions: list[Asked]


class Article(Form):
    """One passage."""

    title: str
    context: Annotated[str, Field(min_length=1)]
    prompt: str
    completions: Annotated[list[Completion], Field(min_length=1)]


class LoraParams(Form):
    """Settings of the inner loop."""

    rank: Count
    alpha: Positive
    dropout: Fraction
    epochs: Count
    lr: Positive
    batch_size: Count
    grad_accum_steps: Count


class ResultsForm(Form):
    """Inner-loop results. The name of the policy is `exp_name`, in older files `model`."""

    exp_name: str | None = None
    model: str | None = None
    timestamp: str
    dataset: str
    split_newlines: bool
    n_articles: Count
    k_completions: Count
    eval_times: Count
    lora_params: LoraParams
    articles: Annotated[list[Article], Field(min_length=1)]


class Means(Form):
    """Accuracies over all questions, rounded to four digits."""

    baseline_accuracy: Fraction
    adapter_accuracy: Fraction


class Reply(Form):
    """Answers to all questions, in the order of the data set; the questions are not there."""

    baseline_texts: list[str]
    adapter_texts: list[str]
    baseline_correct: list[bool]
    adapter_correct: list[bool]


class PretrainingForm(Form):
    """Continued pretraining: one adapter trained on the self-edits of all passages together."""

    overall: Means
    timestamp: str
    dataset: str
    split_newlines: bool
    n_articles: Count
    k_completions: Index
    lora_params: LoraParams
    train_sequences: Count
    eval_questions: Count
    server_reply: Reply


class ContinualForm(Form):
    """Accuracy by passages learnt so far (rows, from none to all) and passage (columns)."""

    mean_over_sequences: list[list[Fraction]]
    std_over_sequences: list[list[Fraction]]
    n_sequences: Count
    n_datapoints: Count
    dataset: str
    base_model: str


PublishedForm = ResultsForm | PretrainingForm | ContinualForm


def read_form(path: Path) -> tuple[PublishedForm, str]:
    """A file's content, and the SHA-256 of its bytes.

    Raises:
        InputError: the file cannot be read, is not JSON, or is of no form; names the place.
    """
    data = _read(path)
    text = decode_text(data, str(path))
    try:
        value = from_json(text, allow_inf_nan=False)
    except ValueError as error:
        raise InputError(f"{path}: it is not JSON: {error}") from None
    try:
        return _choose(path, value).model_validate(value), hashlib.sha256(data).hexdigest()
    except ValidationError as error:
        raise InputError(f"{path}: {_explain(error)}") from None


def _read(path: Path) -> bytes:
    if not path.is_file():
        what = "it is a folder: give one of its files" if path.is_dir() else "there is no such file"
        raise InputError(f"{path}: {what}")
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}): check its rights") from None


def _choose(path: Path, value: Any) -> type[PublishedForm]:
    forms = {
        "articles": ResultsForm,
        "server_reply": PretrainingForm,
        "mean_over_sequences": ContinualForm,
    }
    for field, form in forms.items():
        if isinstance(value, dict) and field in value:
            return form
    raise InputError(
        f"{path}: it is no result file of the reference implementation: it has "
        f"none of {', '.join(map(repr, forms))}; docs/import.md shows the forms"
    )


def _explain(error: ValidationError) -> str:
    """The first mistake, with its place as in `articles[3].completions[0].text`."""
    first = error.errors(include_url=False, include_input=False)[0]
    place = ""
    for part in first["loc"]:
        place += f"[{part}]" if isinstance(part, int) else f".{part}" if place else str(part)
    if first["type"] == "missing":
        return f"{place} is missing"
    return f"{place}: {first['msg'][0].lower()}{first['msg'][1:]}"
