"""Sums up the same experiment over seeds: `python -m flows.seeds PREFIX SEED …`.

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
from flows.results import Results, held_out_results, number, signed
from flows.terminal import table_console
from seal_core.errors import InputError
from seal_core.rewards.intervals import Estimate, mean_interval
from seal_core.types import INPUT_ONLY_MATCHED
from storage.sql.catalog import Catalog
from storage.store import Store


def last_round_gain(results: Results, against: str = "round_0") -> Estimate:
    """Paired difference of the last round to `against`.

    Raises:
        InputError: the run has no such comparison.
    """
    rounds = [row.condition for row in results.conditions if row.condition.startswith("round_")]
    for a, b, estimate in results.paired:
        if (a, b) == (rounds[-1], against):
            return estimate
    raise InputError(f"run {results.run!r} does not compare its last round to {against}")


def print_seeds(reports: Sequence[Results], console: Console) -> None:
    """One row per seed, then the means over seeds."""
    conditions = [row.condition for row in reports[0].conditions]
    table = Table(title=f"Held-out accuracy over {len(reports)} seeds", title_justify="left")
    for name in ("run", *conditions, "last − round_0", "standard error", "last − matched"):
        table.add_column(name, justify="left" if name == "run" else "right")
    for report in reports:
        gain = last_round_gain(report)
        matched = last_round_gain(report, INPUT_ONLY_MATCHED)
        means = [number(row.accuracy.mean) for row in report.conditions]
        table.add_row(report.run, *means, signed(gain.mean), number(gain.se), signed(matched.mean))
    console.print(table)
    for title, against in (("round_0", "round_0"), ("the matched control", INPUT_ONLY_MATCHED)):
        found = [last_round_gain(report, against).mean for report in reports]
        gains = [gain for gain in found if gain is not None]
        mean = mean_interval(gains, bounds=(-1.0, 1.0))
        console.print(
            f"last round above {title}: in {sum(gain > 0 for gain in gains)} of {len(gains)} "
            f"seeds, mean {signed(mean.mean)} [{signed(mean.low)}, {signed(mean.high)}]"
        )


def main(prefix: str, seeds: Sequence[str]) -> None:
    """Prints the summary of the runs `prefix-seed`."""
    with Catalog(Store.open(os.environ.get("SEAL_STORE", STORE), create=False)) as catalog:
        reports = [held_out_results(catalog, f"{prefix}-{seed}") for seed in seeds]
    print_seeds(reports, table_console())


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
