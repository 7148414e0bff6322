"""Options of kinds of other packages: checked by their own model, and recorded as plain JSON.

What is recorded is what a kind gets, and what cache keys hold. So options have to say the same when
they are read again, and at every start.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import new_class
from typing import Any

from pydantic import BaseModel, ValidationError

from seal_core.errors import Ended, InputError, in_one_line
from seal_core.kinds.entry_points import load_kind
from seal_core.kinds.guarded import FAULTS
from seal_core.section import Section

_RESERVED = {"kind", "package", "options"}
_LOST = (
    "cannot be recorded: what is read again from plain JSON is another value, as of secrets, "
    "excluded fields, NaN, and numbers that a validator changes"
)


def valid_options(point: str, kind: str, plain: Mapping[str, Any]) -> BaseModel:
    """A kind's options by its own model, which is told to refuse what it does not know.

    Raises:
        ValueError: One is wrong; names the key.
        InputError: The kind cannot be had, or its model fails.
    """
    return _validated(point, kind, _model(point, kind), plain)


def recorded(point: str, kind: str, plain: Mapping[str, Any]) -> dict[str, Any]:
    """Options as a config keeps them, defaults included.

    Raises:
        ValueError: One is wrong, or is another one when it is read again, or at the next start.
        InputError: As `valid_options`.
    """
    model, title = _model(point, kind), f"{point}.kind = {kind!r}"
    options = _validated(point, kind, model, plain)
    if unknown := sorted(_dropped(plain, options)):
        raise ValueError(f"unknown key '{point}.{unknown[0]}'")
    if sets := sorted(_sets(options.model_dump(by_alias=True))):
        raise ValueError(f"{title}: {point}.{sets[0]} is a set, which has no order: use a tuple")
    found = _plain(title, options)
    if keys := _differing(options, _validated(point, kind, model, plain)):
        raise ValueError(
            f"{point}.{keys[0]}: the default of {title} is another one at each start: give a value"
        )
    try:
        keys = _differing(options, again := _validated(point, kind, model, found))
        same = _plain(title, again) == found
    except ValueError as error:
        raise ValueError(f"{error}: {_LOST}") from None
    if keys or not same:
        raise ValueError(f"{title}: {point}.{(keys or ['…'])[0]} {_LOST}")
    return found


def plain_options(options: BaseModel) -> dict[str, Any]:
    """Options as plain JSON that their model takes."""
    return options.model_dump(mode="json", by_alias=True, round_trip=True)


def _model(point: str, kind: str) -> type[BaseModel]:
    """The options of a kind, none without an `Options`; closed to other keys."""
    own = getattr(load_kind(point, kind), "Options", Section)
    if not (isinstance(own, type) and issubclass(own, BaseModel)):
        raise ValueError(f"{point}.kind = {kind!r}: its Options are no pydantic 2 model")
    if taken := sorted(_RESERVED & own.model_fields.keys()):
        raise ValueError(f"{point}.kind = {kind!r}: its Options may have no field {taken[0]!r}")
    with _named(point, kind):
        return new_class(own.__name__, (own,), {"extra": "forbid"})


def _validated(
    point: str, kind: str, model: type[BaseModel], plain: Mapping[str, Any]
) -> BaseModel:
    with _named(point, kind):
        try:
            return model.model_validate(plain)
        except ValidationError as error:
            raise ValueError(_explained(point, kind, model, error.errors()[0])) from None


def _explained(point: str, kind: str, model: type[BaseModel], error: Any) -> str:
    where = ".".join([point, *map(str, error["loc"])])
    if error["type"] == "extra_forbidden":
        names = [field.alias or name for name, field in model.model_fields.items()]
        return f"unknown key {where!r} (kind {kind!r} has {', '.join(names) or 'none'})"
    if error["type"] == "value_error":
        return f"{where}: {error['ctx']['error']}"
    return f"{where}: {error['msg'][0].lower()}{error['msg'][1:]}"


def _plain(title: str, options: BaseModel) -> dict[str, Any]:
    try:
        return plain_options(options)
    except Exception as error:
        raise ValueError(
            f"{title}: its options cannot be recorded as JSON ({in_one_line(error)})"
        ) from None


def _dropped(given: Any, taken: Any, place: str = "") -> Iterator[str]:
    """Keys within what was given that a model inside of the options took no notice of."""
    if isinstance(given, Mapping) and isinstance(taken, BaseModel):
        if len(given) > len(taken.model_fields_set | (taken.model_extra or {}).keys()):
            known = taken.model_dump(by_alias=True, exclude_unset=True).keys()
            yield from (f"{place}{key}" for key in given if key not in known)
        for name, field in type(taken).model_fields.items():
            key = field.alias or name
            yield from _dropped(given.get(key), getattr(taken, name), f"{place}{key}.")
    elif isinstance(given, Mapping) and isinstance(taken, Mapping):
        for key in given.keys() & taken.keys():
            yield from _dropped(given[key], taken[key], f"{place}{key}.")
    elif isinstance(given, list | tuple) and isinstance(taken, list | tuple):
        for i, (one, other) in enumerate(zip(given, taken, strict=False)):
            yield from _dropped(one, other, f"{place}{i}.")


def _sets(value: Any, place: str = "") -> Iterator[str]:
    if isinstance(value, set | frozenset):
        yield place.removesuffix(".")
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _sets(item, f"{place}{key}.")
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            yield from _sets(item, f"{place}{i}.")


def _differing(one: BaseModel, other: BaseModel) -> list[str]:
    """Fields that are not the same in two options of one model; those that are NaN among them."""
    names = type(one).model_fields
    return [name for name in names if getattr(one, name) != getattr(other, name)]


@contextmanager
def _named(point: str, kind: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, InputError, Ended):
        raise
    except FAULTS as error:
        raise InputError(
            f"{point}.kind = {kind!r}: its Options fail ({type(error).__name__}: "
            f"{in_one_line(error)})"
        ) from error
