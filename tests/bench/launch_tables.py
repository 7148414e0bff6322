"""Renders the calls of a micro-batch from their records."""

from __future__ import annotations

from tests.bench.markdown import table
from tests.bench.records import Record

LIMIT = 45.0
"""Calls per targeted module that the project allows itself."""


def launch_lines(data: Record) -> list[str]:
    """Calls beyond the bare model's, per targeted module, by model, targets and adapters."""
    head = ["layers", "targets", "adapters", "modules", "calls", "of the bare model"]
    head += ["beyond it, per module", "more for own rates"]
    rows = [
        [
            record["layers"],
            record["targets"],
            record["n"],
            record["modules"],
            record["calls"],
            record["bare"],
            f"{record['per_module']:.1f}",
            record["for_own_rates"],
        ]
        for record in data["records"]
    ]
    return [
        "",
        f"- {data['machine']['versions']}",
        "",
        *table(head, [*rows, ["at most", "", "", "", "", "", f"{LIMIT:.0f}", ""]]),
    ]
