"""Sums up the same experiment over seeds: `python -m flows.views.seeds PREFIX SEED …`.

Reads the runs `PREFIX-SEED` of the store, prints a row per seed, and the mean over seeds of the
gain from the first round's policy to the last's, with an interval over seeds.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from flows.commands.options import STORE
from flows.terminal import table_console
from flows.views.results import CROSSED, Results, held_out_results, number, signed
from seal_core.errors import InputError
from seal_core.rewards.intervals import Estimate, mean_interval
from seal_core.types import INPUT_ONLY_MATCHED
from storage.sql.catalog import Catalog
from storage.store import Store


def gain(results: Results, against: str = "round_0", of: str | None = None) -> Estimate:
    """Paired difference of a condition, or else of the last round, to `against`.

    Raises:
        InputError: the run has no such comparison.
    """
    rounds = [row.condition for row in results.conditions if row.condition.startswith("round_")]
    for a, b, estimate in results.paired:
        if (a, b) == (of or rounds[-1], against):
            return estimate
    raise InputError(f"run {results.run!r} does not compare {of or 'its last round'} to {against}")


def print_seeds(reports: Sequence[Results], console: Console) -> None:
    """One row per seed, then the means over seeds."""
    conditions = [row.condition for row in reports[0].conditions]
    table = Table(title=f"Held-out accuracy over {len(reports)} seeds", title_justify="left")
    for name in ("run", *conditions, "last − round_0", "standard error", "last − matched"):
        table.add_column(name, justify="left" if name == "run" else "right")
    for report in reports:
        last, matched = gain(report), gain(report, INPUT_ONLY_MATCHED)
        means = [number(row.accuracy.mean) for row in report.conditions]
        table.add_row(report.run, *means, signed(last.mean), number(last.se), signed(matched.mean))
    console.print(table)
    _print_mean(reports, "round_0", None, console)
    _print_mean(reports, INPUT_ONLY_MATCHED, None, console)
    for crossed in (name for name in CROSSED if name in conditions):
        _print_mean(reports, "round_0", crossed, console)


def _print_mean(reports: Sequence[Results], against: str, of: str | None, console: Console) -> None:
    found = [gain(report, against, of).mean for report in reports]
    gains = [value for value in found if value is not None]
    mean = mean_interval(gains, bounds=(-1.0, 1.0))
    console.print(
        f"{of or 'last round'} above {against}: in {sum(value > 0 for value in gains)} of "
        f"{len(gains)} seeds, mean {signed(mean.mean)} [{signed(mean.low)}, {signed(mean.high)}]"
    )


def main(prefix: str, seeds: Sequence[str]) -> None:
    """Prints the summary of the runs `prefix-seed`."""
    with Catalog(Store.open(os.environ.get("SEAL_STORE", STORE), create=False)) as catalog:
        reports = [held_out_results(catalog, f"{prefix}-{seed}") for seed in seeds]
    print_seeds(reports, table_console())


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
