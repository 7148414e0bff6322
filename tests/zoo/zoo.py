"""`make test-zoo`: every causal type of the installed transformers through the product.

python -m tests.zoo.zoo [--types a,b | --families] [--report docs/models.md] [--jobs 2]

Each type is built tiny with random weights, judged by the product's own check, and then the
product's engines are held against plain transformers and PEFT. Ends with 1 if a type is silently
wrong or ends in a traceback, if more than 25 cannot be built, or if a family gets a worse verdict
than the table of families expects.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.zoo.crew import Outcome, run_all
from tests.zoo.examine import FAST, PLAIN, TRACEBACK, UNBUILT, WRONG, Row, examine
from tests.zoo.recipe import all_types
from tests.zoo.report import counts, write

FAMILIES = {
    # Dense decoders.
    **dict.fromkeys(("llama", "qwen2", "qwen3", "mistral", "gemma2", "gemma3_text"), FAST),
    **dict.fromkeys(("phi3", "gpt2", "gpt_neox", "olmo2", "smollm3", "cohere", "granite"), FAST),
    # Experts; attention and shared layers are trained.
    **dict.fromkeys(("qwen2_moe", "qwen3_moe", "mixtral", "olmoe"), FAST),
    # Hybrids, and a recurrent one whose states take in the padding of a batch.
    **dict.fromkeys(("qwen3_5_text", "lfm2", "granitemoehybrid"), FAST),
    "mamba2": PLAIN,
}
"""What people use, and the verdict that each must get at least."""

_SECONDS = 180
_MEMORY = 8 << 30
_MOST_UNBUILT = 25


def main(argv: Sequence[str] | None = None) -> int:
    """Examines types, prints a line for each, and writes the report that was asked for."""
    options = _options(argv)
    start = time.monotonic()
    rows = []
    calls = [(name, (name,)) for name in options.types]
    for name, outcome in run_all(examine, calls, _SECONDS, _MEMORY, options.jobs):
        rows.append(_row(name, outcome))
        print(_line(rows[-1], outcome), flush=True)
    rows.sort(key=lambda row: row.name)
    print(f"{counts(rows)} ({time.monotonic() - start:.0f} s)")
    if options.report is not None:
        write(options.report, rows)
    faults = faults_of(rows)
    print("\n".join(faults))
    return 1 if faults else 0


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = all_types()
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--types", type=lambda text: text.split(","), default=known)
    which.add_argument("--families", dest="types", action="store_const", const=list(FAMILIES))
    parser.add_argument("--report", type=Path, help="where to write the table")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args(argv)
    unknown = sorted(set(options.types) - set(known))
    if unknown:
        parser.error(f"transformers has no causal types {', '.join(unknown)}")
    if options.report is not None and options.types != known:
        parser.error("--report is for a table of all types")
    return options


def _row(name: str, outcome: Outcome) -> Row:
    """The call's row; a crash, a hang and an unforeseen error are rows as well."""
    if outcome.error is None:
        return outcome.value
    print(outcome.trace, file=sys.stderr)
    return Row(name, TRACEBACK, why=outcome.error)


def _line(row: Row, outcome: Outcome) -> str:
    ways = f"{row.answers}, {row.training}" if row.answers else ""
    return f"{row.state:9} {row.name:26} {ways:16} {outcome.seconds:5.1f} s  {row.why}".rstrip()


def faults_of(rows: Sequence[Row]) -> list[str]:
    """Why the run as a whole fails, one line each."""
    faults = [f"{row.name}: {row.state}: {row.why}" for row in rows if row.state in _FAILURES]
    faults += [
        f"{row.name}: {row.state}, and {FAMILIES[row.name]} is expected: {row.why}"
        for row in rows
        if row.name in FAMILIES and row.state not in (FAST, FAMILIES[row.name], *_FAILURES)
    ]
    unbuilt = sum(row.state == UNBUILT for row in rows)
    if unbuilt > _MOST_UNBUILT:
        faults.append(f"{unbuilt} types were not built, at most {_MOST_UNBUILT} may be")
    return faults


_FAILURES = (WRONG, TRACEBACK)

if __name__ == "__main__":
    sys.exit(main())
