"""What a run recorded of its configuration, and the domain that it describes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from seal_core.config import Config
from seal_core.domains.base import Domain
from seal_core.errors import InputError
from seal_core.fingerprint import digest
from seal_core.kinds.chosen import make_domain
from seal_core.kinds.foreign import version_note
from seal_core.models.files.model_digest import digest_model
from seal_core.models.files.model_place import find_model
from seal_core.types import Problem, Question
from storage.sql.catalog import Catalog
from storage.store import Store
from tasks.opening.preflight import model_memory


def read_recorded(catalog: Catalog, run: str) -> dict[str, Any]:
    """What the name of a run stands for, as plain JSON types."""
    (text,) = catalog.fetch("SELECT config_json FROM runs WHERE run = $run", run=run)[0]
    return json.loads(text)


def recorded_config(run: str, recorded: dict[str, Any]) -> Config:
    """The configuration of a run.

    Raises:
        InputError: it was imported, or is of another version.
    """
    if "import" in recorded:
        raise InputError(f"run {run!r} was imported: its prompts are not known")
    try:
        return Config.model_validate(
            {k: v for k, v in recorded.items() if k in Config.model_fields}
        )
    except ValidationError as error:
        raise InputError(
            f"run {run!r} is of another version, whose settings are not known here: {error}"
        ) from error


def recorded_domain(run: str, recorded: dict[str, Any]) -> Domain:
    """The domain of a run, in whatever version of its package is here: to show, not to compute.

    Raises:
        InputError: as `recorded_config`, or a package that it needs is not here.
    """
    return make_domain(recorded_config(run, recorded), any_version=True)


def domain_note(run: str, recorded: dict[str, Any]) -> str | None:
    """That the domain of a run is shown by another version of its package, if it is."""
    try:
        return version_note(recorded_config(run, recorded).domain)
    except InputError:
        return None


@dataclass(frozen=True)
class RecordedModel:
    """The base model of a run, as it is still there.

    Attributes:
        path: Folder of its files.
        precision: Type of its weights in the run.
    """

    config: Config
    path: str
    precision: str


def recorded_model(store: Store, run: str, recorded: dict[str, Any]) -> RecordedModel:
    """The base model of a run.

    Raises:
        InputError: as `recorded_config`, or the model is not there, or not the same any more.
    """
    config = recorded_config(run, recorded)
    path = find_model(config.model.path, config.model.revision)
    contents = recorded.get("contents", {})
    precision = contents.get("precision", config.model.dtype)
    now = digest([digest_model(path, model_memory(store)).digest, precision])
    if contents.get("model", now) != now:
        raise InputError(
            f"{path} is not the model of run {run!r} any more, so that its tokens may be others: "
            "put the run's model back there"
        )
    return RecordedModel(config, path, precision)


def recorded_problem(catalog: Catalog, run: str, problem_id: str) -> Problem:
    """A problem of a run with its questions.

    Raises:
        InputError: the run has none of this id.
    """
    rows = catalog.records(
        """SELECT domain, split, title, context FROM problems
        WHERE run = $run AND problem_id = $problem""",
        run=run,
        problem=problem_id,
    )
    if not rows:
        raise InputError(
            f"run {run!r} has no problem {problem_id!r}: look for ids with `seal sql problems`"
        )
    questions = catalog.records(
        """SELECT question_id, prompt, gold FROM questions
        WHERE run = $run AND problem_id = $problem ORDER BY question_index""",
        run=run,
        problem=problem_id,
    )
    return Problem(
        problem_id=problem_id,
        **rows[0],
        questions=tuple(
            Question(q["question_id"], q["prompt"], tuple(q["gold"])) for q in questions
        ),
    )
