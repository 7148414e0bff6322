"""The held-out report: accuracy by condition with intervals, and paired differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from seal_core.errors import InputError
from seal_core.rewards.intervals import Estimate, mean_interval, paired_difference
from seal_core.types import (
    BASE_EDITS_ON_LAST,
    IN_CONTEXT,
    INPUT_ONLY,
    INPUT_ONLY_MATCHED,
    LAST_EDITS_ON_BASE,
    NO_ADAPTATION,
)
from storage.sql.catalog import Catalog

CROSSED = (LAST_EDITS_ON_BASE, BASE_EDITS_ON_LAST)
_ACCURACY = """
SELECT condition, problem_id, avg({verdict}) AS accuracy, count(*) FILTER (error IS NOT NULL)
FROM answers WHERE run = $run AND split = 'heldout' AND ({where})
GROUP BY condition, problem_id ORDER BY condition, problem_id
"""
_REPORTED = "round = -1 OR starts_with(condition, 'round_')"
_COST = """
SELECT condition, avg(n_steps), avg(n_tokens) FROM adapters
WHERE run = $run AND split = 'heldout' AND error IS NULL GROUP BY condition
"""
_LENGTH = """
SELECT condition, avg(n_tokens), avg(len(list_filter(string_split(text, chr(10)),
       lambda line: trim(line) <> '')))
FROM self_edits WHERE run = $run AND split = 'heldout' AND error IS NULL GROUP BY condition
"""


@dataclass(frozen=True)
class ConditionResult:
    """Held-out accuracy of one condition.

    Attributes:
        steps, tokens: Mean per adapter; None where nothing is trained.
        edit_tokens, edit_lines: Mean length of the self-edits; None where there are none.
        n_errors: Answers lost to errors; they are in no mean.
    """

    condition: str
    accuracy: Estimate
    steps: float | None
    tokens: float | None
    edit_tokens: float | None
    edit_lines: float | None
    n_errors: int


@dataclass(frozen=True)
class Results:
    """The held-out report of one run."""

    run: str
    conditions: list[ConditionResult]
    paired: list[tuple[str, str, Estimate]]

    def to_json(self) -> dict[str, Any]:
        """What `seal results --json` prints."""
        return {
            "run": self.run,
            "conditions": [_condition_json(result) for result in self.conditions],
            "paired": [
                {"a": a, "b": b, "n": e.n, "mean": e.mean, "se": e.se, "low": e.low, "high": e.high}
                for a, b, e in self.paired
            ],
        }


@dataclass(frozen=True)
class HeldOut:
    """Accuracy on each held-out problem by condition, and answers lost to errors."""

    accuracy: dict[str, dict[str, float]]
    errors: dict[str, int]


def held_out_accuracy(catalog: Catalog, run: str, grading: str | None = None) -> HeldOut:
    """Reads a run's held-out answers.

    Args:
        grading: One of the gradings that are stored with each answer; None for the run's verdict.

    Raises:
        InputError: the store has no run of this name, or it has no held-out answer yet.
    """
    if not catalog.fetch("SELECT 1 FROM runs WHERE run = $run", run=run):
        names = [row[0] for row in catalog.fetch("SELECT DISTINCT run FROM runs ORDER BY run")]
        raise InputError(f"no run {run!r} in this store; it has: {', '.join(names) or 'no run'}")
    found = HeldOut({}, {})
    verdict = "correct::DOUBLE" if grading is None else "grades[$grading]"
    named = {} if grading is None else {"grading": grading}
    query = _ACCURACY.format(verdict=verdict, where=_REPORTED)
    for condition, problem, mean, lost in catalog.fetch(query, run=run, **named):
        found.errors[condition] = found.errors.get(condition, 0) + lost
        if mean is not None:
            found.accuracy.setdefault(condition, {})[problem] = mean
    if not found.accuracy:
        graded = f" that are graded by {grading!r}" if grading else ""
        raise InputError(
            f"run {run!r} has no held-out answers{graded}: `seal status` shows the stages it has "
            "done, `seal sql rewards_by_round` its training rewards"
        )
    return found


def held_out_results(catalog: Catalog, run: str) -> Results:
    """Reads a run's held-out answers and compares the conditions.

    Raises:
        InputError: as `held_out_accuracy`.
    """
    found = held_out_accuracy(catalog, run)
    accuracy, errors = found.accuracy, found.errors
    cost = {row[0]: row[1:] for row in catalog.fetch(_COST, run=run)}
    length = {row[0]: row[1:] for row in catalog.fetch(_LENGTH, run=run)}
    order = sorted(accuracy, key=place)
    conditions = [
        ConditionResult(
            name,
            mean_interval(accuracy[name].values()),
            *cost.get(name, (None, None)),
            *(length.get(name, (None, None)) if _has_edits(name) else (None, None)),
            n_errors=errors.get(name, 0),
        )
        for name in order
    ]
    return Results(run, conditions, _paired(order, accuracy))


def print_results(results: Results, console: Console) -> None:
    """The two tables of a run."""
    table = Table(title=f"Held-out accuracy, run {results.run}", title_justify="left")
    for name in ("condition", "n", "accuracy", "95% interval", "steps", "tokens", "edit lines"):
        table.add_column(name, justify="left" if name == "condition" else "right")
    for row in results.conditions:
        table.add_row(
            row.condition,
            str(row.accuracy.n),
            number(row.accuracy.mean),
            span(row.accuracy),
            number(row.steps, 1),
            number(row.tokens, 0),
            number(row.edit_lines, 1),
        )
    console.print(table)
    if results.paired:
        _print_pairs(results, console)
    lost = sum(row.n_errors for row in results.conditions)
    if lost:
        console.print(f"{lost} answers were lost to errors and are in no mean: see the view errors")


def results_markdown(results: Results) -> list[str]:
    """The held-out table as lines of Markdown."""
    return [
        "| condition | n | accuracy | 95% interval |",
        "| --- | ---: | ---: | --- |",
        *(
            f"| {row.condition} | {row.accuracy.n} | {number(row.accuracy.mean)} "
            f"| {span(row.accuracy)} |"
            for row in results.conditions
        ),
    ]


def _print_pairs(results: Results, console: Console) -> None:
    pairs = Table(title="Paired differences over problems", title_justify="left")
    for name in ("a", "b", "a − b", "standard error", "95% interval"):
        pairs.add_column(name, justify="left" if name in "ab" else "right")
    for a, b, estimate in results.paired:
        pairs.add_row(a, b, signed(estimate.mean), number(estimate.se), span(estimate))
    console.print(pairs)


def _condition_json(result: ConditionResult) -> dict[str, Any]:
    return {
        "condition": result.condition,
        "n": result.accuracy.n,
        "mean": result.accuracy.mean,
        "low": result.accuracy.low,
        "high": result.accuracy.high,
        "steps": result.steps,
        "tokens": result.tokens,
        "edit_tokens": result.edit_tokens,
        "edit_lines": result.edit_lines,
        "n_errors": result.n_errors,
    }


def _paired(
    order: Sequence[str], accuracy: Mapping[str, Mapping[str, float]]
) -> list[tuple[str, str, Estimate]]:
    """Each round against the one before, the last against the first and every control.

    A crossed control stands between two rounds: against the first it tells what one of the two,
    self-edits or policy, brought; against the last, what the other did.
    """
    rounds = [name for name in order if _is_round(name)]
    pairs = list(zip(rounds[1:], rounds, strict=False))
    if len(rounds) > 2:
        pairs.append((rounds[-1], rounds[0]))
    controls = (INPUT_ONLY, INPUT_ONLY_MATCHED, NO_ADAPTATION, IN_CONTEXT)
    pairs += [(rounds[-1], name) for name in controls if rounds and name in accuracy]
    for name in CROSSED:
        if rounds and name in accuracy:
            pairs += [(name, rounds[0]), (rounds[-1], name)]
    return [(a, b, paired_difference(accuracy[a], accuracy[b])) for a, b in pairs]


def place(condition: str) -> tuple[int, int]:
    """Order of the table: unadapted, the passage alone, the rounds, the crossed, the ceiling."""
    if _is_round(condition):
        return 3, int(condition.removeprefix("round_"))
    fixed = [NO_ADAPTATION, INPUT_ONLY, INPUT_ONLY_MATCHED, "", *CROSSED]
    return fixed.index(condition) if condition in fixed else len(fixed), 0


def _has_edits(condition: str) -> bool:
    return _is_round(condition) or condition in CROSSED


def _is_round(condition: str) -> bool:
    return condition.startswith("round_")


def number(value: float | None, digits: int = 3) -> str:
    """A figure for a table; a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}"


def signed(value: float | None) -> str:
    """A difference for a table; a dash where there is none."""
    return "–" if value is None else f"{value:+.3f}"


def span(estimate: Estimate) -> str:
    """The 95% interval for a table; a dash where there is none."""
    if estimate.low is None or estimate.high is None:
        return "–"
    return f"[{estimate.low:.3f}, {estimate.high:.3f}]"
