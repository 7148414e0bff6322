"""Makes the report: one page of HTML that needs no network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jinja2

from flows.report.sections import run_sections
from flows.views.comparison import Comparison, compare_runs
from flows.views.formats import visible
from flows.views.results import number, signed, span
from seal_core import __version__
from seal_core.errors import InputError
from storage.sql.catalog import Catalog


def report_page(catalog: Catalog, runs: Sequence[str]) -> str:
    """The report of one run, or of several and how they compare with the first.

    Raises:
        InputError: no run is named, one is named twice or not there, or has no held-out answers.
    """
    if not runs:
        raise InputError("no run: name one or several")
    if len(set(runs)) < len(runs):
        raise InputError("a run is named twice: name each once")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("flows", "report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(
        number=number, signed=signed, span=span, cell=_cell, shown=lambda text: visible(text, "\n")
    )
    return environment.get_template("page.html.j2").render(
        title=", ".join(runs),
        version=__version__,
        runs=[run_sections(catalog, run, place) for place, run in enumerate(runs)],
        comparisons=[_compared(catalog, runs[0], other) for other in runs[1:]],
    )


def _compared(catalog: Catalog, first: str, other: str) -> tuple[str, Comparison | None, str]:
    """The other run, how it compares, or why it does not."""
    try:
        return other, compare_runs(catalog, other, first), ""
    except InputError as error:
        return other, None, str(error)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
