"""What a run recorded of its configuration, and the domain that it describes."""

from __future__ import annotations

import json
from typing import Any

from pydantic import ValidationError

from seal_core.config import Config
from seal_core.domains.base import Domain
from seal_core.errors import InputError
from seal_core.kinds.chosen import make_domain
from seal_core.kinds.foreign import version_note
from storage.sql.catalog import Catalog


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
