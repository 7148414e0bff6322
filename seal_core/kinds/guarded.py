"""Kinds of other packages under guard: what fails in one is named by point, kind and package."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from seal_core.errors import Ended, InputError, SealError, StageError, in_one_line

FAULTS = (Exception, SystemExit, CancelledError)
"""What a package may raise; whoever ends the process in it would end a run without a word."""


class Guarded:
    """Passes everything on to a kind; its exceptions become a `StageError` that names it.

    What it raises on purpose, a `SealError`, is passed on as it is.
    """

    def __init__(self, kind: Any, name: str) -> None:
        self._kind, self._name = kind, name

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):  # Python asks for these, and wants to hear of none.
            raise AttributeError(attribute)
        value = self._tried(attribute, lambda: getattr(self._kind, attribute))
        if not callable(value):
            return value

        def call(*given: Any, **named: Any) -> Any:
            return self._tried(attribute, lambda: _whole(value(*given, **named)))

        return call

    def _tried(self, attribute: str, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except (SealError, Ended):
            raise
        except FAULTS as error:
            raise StageError(
                f"{self._name} fails in {attribute!r} ({type(error).__name__}: "
                f"{in_one_line(error)}): repair that package, or install another version of it"
            ) from error


def _whole(found: Any) -> Any:
    """What a generator gives, which would fail elsewhere."""
    return tuple(found) if isinstance(found, Iterator) else found


@contextmanager
def before_work(name: str) -> Iterator[None]:
    """Whatever is wrong with a kind is wrong input as long as nothing is written."""
    try:
        yield
    except (InputError, Ended):
        raise
    except SealError as error:
        raise InputError(str(error)) from error
    except FAULTS as error:
        raise InputError(
            f"{name} fails when it is tried ({type(error).__name__}: {in_one_line(error)})"
        ) from error
