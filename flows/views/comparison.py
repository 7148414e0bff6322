"""Two runs side by side: differences paired by problem, settings that differ, what each cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from flows.views.recorded import read_recorded
from flows.views.results import HeldOut, held_out_accuracy, number, place, signed, span
from seal_core.config_changes import config_changes
from seal_core.errors import InputError
from seal_core.rewards.intervals import Estimate, paired_difference
from storage.sql.catalog import Catalog

LAST = "last round"
_GRADERS = """
SELECT list(DISTINCT grader ORDER BY grader) FROM answers
WHERE run = $run AND split = 'heldout' AND error IS NULL
"""
_GRADINGS = """
SELECT DISTINCT unnest(map_keys(grades)) FROM answers
WHERE run = $run AND split = 'heldout' AND error IS NULL
"""
_COST = """
SELECT
    (SELECT coalesce(sum(seconds), 0) FROM stages WHERE run = $run),
    (SELECT coalesce(sum(n_tokens), 0)::BIGINT FROM stages WHERE run = $run),
    (SELECT count(*) FROM self_edits WHERE run = $run AND starts_with(condition, 'round_')),
    (SELECT count(*) FROM adapters WHERE run = $run AND error IS NULL AND n_steps > 0)
"""


@dataclass(frozen=True)
class ConditionPair:
    """One condition of both runs.

    Attributes:
        a, b: Mean accuracy over the problems that both have.
        difference: `a - b`, paired by problem.
    """

    condition: str
    a: float
    b: float
    difference: Estimate


@dataclass(frozen=True)
class RunCost:
    """What a run's executions took, the failed ones too.

    Attributes:
        seconds: Of all stages, summed over workers; shards taken over from other runs cost nothing.
        tokens: Generated or trained on.
        self_edits: Written by its policies.
        adapters: Trained, or taken over.
    """

    seconds: float
    tokens: int
    self_edits: int
    adapters: int


@dataclass(frozen=True)
class Comparison:
    """Two runs of one store.

    Attributes:
        grading: What the answers are compared by; None for the verdict that both runs used.
        shared: Held-out problems that both have; the conditions are compared on these alone.
        problems: Held-out problems of each.
        settings: Those that differ, as `key: a -> b`.
    """

    a: str
    b: str
    grading: str | None
    shared: int
    problems: tuple[int, int]
    conditions: list[ConditionPair]
    settings: list[str]
    cost: tuple[RunCost, RunCost]

    def to_json(self) -> dict[str, Any]:
        """What `seal compare --json` prints."""
        return asdict(self)


def compare_runs(catalog: Catalog, a: str, b: str, grading: str | None = None) -> Comparison:
    """Compares the held-out accuracies of two runs, and tells what else differs.

    Args:
        grading: Compare by this stored grading instead of each run's own verdict.

    Raises:
        InputError: one has no held-out answers, or they cannot be compared: they were graded in
            different ways, or are about different problems.
    """
    if a == b:
        raise InputError(f"{a!r} twice: name two runs to compare")
    found = held_out_accuracy(catalog, a), held_out_accuracy(catalog, b)
    if grading is None:
        _check_graders(catalog, a, b)
    else:
        found = held_out_accuracy(catalog, a, grading), held_out_accuracy(catalog, b, grading)
    problems = _problems(found[0]), _problems(found[1])
    if not problems[0] & problems[1]:
        raise InputError(
            f"runs {a!r} and {b!r} cannot be compared: none of the {len(problems[0])} held-out "
            f"problems of the one is among the {len(problems[1])} of the other; a problem is its "
            "passage, title and questions, so give both the same data.heldout_path"
        )
    return Comparison(
        a=a,
        b=b,
        grading=grading,
        shared=len(problems[0] & problems[1]),
        problems=(len(problems[0]), len(problems[1])),
        conditions=_pairs(found[0].accuracy, found[1].accuracy),
        settings=config_changes(read_recorded(catalog, a), read_recorded(catalog, b)),
        cost=(_cost(catalog, a), _cost(catalog, b)),
    )


def print_comparison(found: Comparison, console: Console) -> None:
    """The conditions, the settings that differ, and what each run cost."""
    by = f", by {found.grading}" if found.grading else ""
    title = f"Held-out accuracy{by}: a = {found.a}, b = {found.b}"
    table = Table(title=title, title_justify="left")
    for name in ("condition", "n", "a", "b", "a − b", "standard error", "95% interval"):
        table.add_column(name, justify="left" if name == "condition" else "right")
    for row in found.conditions:
        difference = row.difference
        figures = (number(row.a), number(row.b), signed(difference.mean), number(difference.se))
        table.add_row(row.condition, str(difference.n), *figures, span(difference))
    console.print(table)
    if found.problems != (found.shared, found.shared):
        console.print(
            f"on the {found.shared} held-out problems that both have, of {found.problems[0]} of "
            f"a and {found.problems[1]} of b"
        )
    print_settings(found.settings, console)
    for name, cost in zip((found.a, found.b), found.cost, strict=True):
        console.print(
            f"{name}: {cost.seconds:.1f} s of workers, {cost.tokens} tokens, {cost.self_edits} "
            f"self-edits, {cost.adapters} adapters",
            markup=False,
        )


def print_settings(settings: list[str], console: Console) -> None:
    """Which settings differ, one line each."""
    console.print("Settings that differ, a -> b:" if settings else "No setting differs.")
    for line in settings:
        console.print(f"  {line}", markup=False)


def _check_graders(catalog: Catalog, a: str, b: str) -> None:
    graders = [catalog.fetch(_GRADERS, run=run)[0][0] for run in (a, b)]
    if graders[0] == graders[1]:
        return
    both = set.intersection(
        *({row[0] for row in catalog.fetch(_GRADINGS, run=run)} for run in (a, b))
    )
    way = f"compare by a grading that both stored, --grading {' or '.join(sorted(both))}"
    raise InputError(
        f"runs {a!r} and {b!r} cannot be compared by their verdicts: {a!r} was graded by "
        f"{', '.join(graders[0])}, {b!r} by {', '.join(graders[1])}; "
        + (way if both else "no grading is stored with both")
    )


def _problems(found: HeldOut) -> set[str]:
    return set().union(*found.accuracy.values())


def _pairs(
    a: Mapping[str, Mapping[str, float]], b: Mapping[str, Mapping[str, float]]
) -> list[ConditionPair]:
    """Conditions that both have; then the last rounds, if these have different names."""
    pairs = [_pair(name, a[name], b[name]) for name in sorted(a, key=place) if name in b]
    last = [
        max((n for n in of if n.startswith("round_")), key=place, default=None) for of in (a, b)
    ]
    if last[0] is not None and last[1] is not None and last[0] != last[1]:
        pairs.append(_pair(f"{LAST}: {last[0]}, {last[1]}", a[last[0]], b[last[1]]))
    return [pair for pair in pairs if pair.difference.n]


def _pair(name: str, a: Mapping[str, float], b: Mapping[str, float]) -> ConditionPair:
    shared = [key for key in a if key in b]
    means = [sum(of[key] for key in shared) / max(len(shared), 1) for of in (a, b)]
    return ConditionPair(name, means[0], means[1], paired_difference(a, b))


def _cost(catalog: Catalog, run: str) -> RunCost:
    return RunCost(*catalog.fetch(_COST, run=run)[0])
