"""Finds the kinds that a config may name: those built in, and those of installed packages.

A package adds a kind with an entry point of the group `seal.plugins`, named `point.kind`; it is
imported only when a config names it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from seal_core.errors import Ended, InputError, in_one_line
from seal_core.kinds.guarded import FAULTS

GROUP = "seal.plugins"

BUILT_IN = {
    "domain": ("knowledge",),
    "reward": ("accuracy", "likelihood"),
    "selection": ("best_of_k",),
    "outer_loop": ("restem",),
    "engine": ("transformers", "vllm"),
    "trainer": ("batched", "peft"),
}
"""Kinds of this package by point; each point is a section of the config."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind that is there.

    Attributes:
        package: `name==version` of the distribution that has it; empty if it is built in.
        problem: Why it cannot be named in a config; empty if it can.
    """

    point: str
    name: str
    package: str = ""
    problem: str = ""


def all_kinds() -> list[Kind]:
    """All kinds by point and name; imports none of them."""
    own = [Kind(point, name) for point, names in BUILT_IN.items() for name in names]
    return sorted([*own, *_foreign()], key=lambda kind: (kind.point, kind.name, kind.package))


def package_of(point: str, name: str) -> str:
    """`name==version` of the package that has a kind which is not built in.

    Raises:
        InputError: There is none, or more than one.
    """
    found = _find(point, name)
    return found.package


def load_kind(point: str, name: str) -> Any:
    """What a package has under a kind's name: a callable that takes its options.

    Raises:
        InputError: There is none, or it cannot be imported.
    """
    kind = _find(point, name)
    (entry,) = [own for own in _entries() if own.name == f"{point}.{name}"]
    try:
        return entry.load()
    except Ended:
        raise
    except FAULTS as error:
        raise InputError(
            f"{point}.kind = {name!r} of {kind.package} does not load "
            f"({type(error).__name__}: {in_one_line(error)}): repair or remove that package"
        ) from error


def _find(point: str, name: str) -> Kind:
    if not isinstance(name, str):  # A config may say anything.
        raise InputError(f"{point}.kind = {name!r} is no name of a kind: write it as text")
    found = [kind for kind in _foreign() if (kind.point, kind.name) == (point, name)]
    if not found:
        usable = (kind for kind in all_kinds() if not kind.problem)
        known = sorted({kind.name for kind in usable if kind.point == point})
        near = difflib.get_close_matches(name, known, n=3) or known
        raise InputError(
            f"{point}.kind = {name!r} is not known: use {' or '.join(map(repr, near))}, or install "
            "the package that has it (`seal plugins` lists what is there)"
        )
    if found[0].problem:
        raise InputError(f"{point}.kind = {name!r}: {found[0].problem}")
    return found[0]


def _foreign() -> Iterator[Kind]:
    entries = _entries()
    names = [entry.name for entry in entries]
    for entry in entries:
        point, _, name = entry.name.partition(".")
        package, problem = _package(entry), ""
        if not package:
            package = str(getattr(entry.dist, "_path", "?"))
            problem = f"the metadata of its package is incomplete, in {package}: install it again"
        elif point not in BUILT_IN or not name:
            points = ", ".join(f"{own}.…" for own in BUILT_IN)
            problem = f"{entry.name!r} of {package} names no point: its names are {points}"
        elif name in BUILT_IN[point]:
            problem = f"{package} has this name too, which is built in: it cannot be replaced"
        elif names.count(entry.name) > 1:
            others = sorted({_package(own) for own in entries if own.name == entry.name})
            who = f"{' and '.join(others)} both have" if len(others) > 1 else f"{package} twice has"
            problem = f"{who} this name: remove one of them"
        elif EntryPoint.pattern.match(entry.value) is None:
            problem = f"its entry point {entry.value!r} in {package} is no module:name"
        yield Kind(point, name, package, problem)


def _package(entry: EntryPoint) -> str:
    """`name==version` of the distribution that has it; empty where it says neither or only one."""
    name, version = (entry.dist.name, entry.dist.version) if entry.dist else (None, None)
    return f"{name}=={version}" if name and version else ""


def _entries() -> list[EntryPoint]:
    return list(entry_points(group=GROUP))
