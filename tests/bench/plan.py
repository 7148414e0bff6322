"""Runs the rows of a benchmark in their order, as far as the time goes that is left."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.bench.records import Record, Records


@dataclass(frozen=True, slots=True)
class Row:
    """One row and what it is expected to cost.

    Attributes:
        run: Measures, and notes each figure in the record it is given as soon as it is there.
        weight: Cost in units of a row of weight 1; the first row that runs tells what a unit is.
        extra: Seconds beside that, whatever a unit costs.
        held: Its time is held back from the rows before it.
    """

    name: str
    run: Callable[[Record], object]
    weight: float
    extra: float = 0.0
    held: bool = False

    def seconds(self, unit: float) -> float:
        """What it is expected to take."""
        return self.extra + self.weight * unit


class Budget:
    """Counts down from a number of seconds.

    Args:
        started: When to count from, by the same clock; None for now.
    """

    def __init__(
        self,
        seconds: float,
        clock: Callable[[], float] = time.perf_counter,
        started: float | None = None,
    ) -> None:
        self._clock = clock
        self._end = (clock() if started is None else started) + seconds

    def left(self) -> float:
        """Seconds; below zero when they are over."""
        return self._end - self._clock()


def run_rows(rows: Sequence[Row], budget: Budget, records: Records) -> None:
    """Measures what fits, one record per row; the record of a row that does not fit says so.

    A row that fails does not end the run, since a lent machine may not come back: its record says
    why, and keeps the figures before.
    """
    unit = 0.0
    for place, row in enumerate(rows):
        record: Record = {"section": "gpu", "row": row.name}
        records.add(record)
        needed, left = row.seconds(unit), budget.left()
        held = sum(later.seconds(unit) for later in rows[place + 1 :] if later.held)
        about = f"about {needed:.0f} s needed, {left:.0f} s left, {held:.0f} s of them held back"
        if needed + held > left:
            records.note(record, skipped=about)
            continue
        records.tell(f"{row.name}: {about}")
        try:
            row.run(record)
        except Exception as error:
            traceback.print_exc()
            line = f"{type(error).__name__}: {error}".partition("\n")[0]
            records.note(record, failed=line)
            continue
        took = left - budget.left()
        records.note(record, took=took)
        if row.weight >= 1:  # The others' own costs hide what a unit is.
            unit = unit or max(0.0, took - row.extra) / row.weight
