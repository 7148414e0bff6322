"""Sums up what was left out while problems were loaded: a line for each reason."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from seal_core.types import LeftOut

_SHOWN = 3


def left_out_lines(items: Iterable[LeftOut]) -> list[str]:
    """How many problems and questions were left out for each reason, and the first places."""
    places: dict[tuple[str, str], list[str]] = defaultdict(list)
    for item in items:
        places[item.unit, item.reason].append(item.place)
    return [_line(unit, reason, found) for (unit, reason), found in places.items()]


def _line(unit: str, reason: str, places: list[str]) -> str:
    count = f"{len(places)} {unit}{'' if len(places) == 1 else 's'}"
    first = "; ".join(places[:_SHOWN])
    more = "; …" if len(places) > _SHOWN else ""
    return f"left out {count}: {reason} ({first}{more})"
