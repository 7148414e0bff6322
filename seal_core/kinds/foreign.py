"""Makes a kind of another package, if it is the one that the config was checked with."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from seal_core.errors import Ended, InputError, in_one_line
from seal_core.kinds.entry_points import load_kind, package_of
from seal_core.kinds.foreign_options import plain_options, valid_options
from seal_core.kinds.guarded import FAULTS, Guarded
from seal_core.kinds.sections import Foreign


def version_note(section: BaseModel) -> str | None:
    """That a kind's package is another version here than it was in the run; None if it is not."""
    if not isinstance(section, Foreign):
        return None
    here = package_of(section.point, section.kind)
    return None if here == section.package else f"{section.title} is {here} here"


def make_foreign(section: Foreign, any_version: bool = False) -> Any:
    """A kind of another package, from nothing but its options.

    Raises:
        InputError: It is not there, not the version that the section names, or cannot be made.
    """
    target = load_kind(section.point, section.kind)
    note = version_note(section)
    if note and not any_version:
        raise InputError(f"{note}: install the version that the run was made with")
    try:
        options = valid_options(section.point, section.kind, section.options)
    except ValueError as error:
        raise InputError(f"{error}: {section.title} has other options than were recorded") from None
    if not any_version and plain_options(options).keys() != section.options.keys():
        raise InputError(f"{section.title}: its options are incomplete: give them beside the kind")
    try:
        return Guarded(target(options), section.title)
    except (InputError, Ended):
        raise
    except FAULTS as error:
        raise InputError(
            f"{section.title} cannot be made ({type(error).__name__}: {in_one_line(error)})"
        ) from error
