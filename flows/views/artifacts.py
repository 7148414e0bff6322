"""Leaves a run's results and what it did on the Prefect server, as artifacts of the flow run."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import httpx
from prefect.artifacts import MarkdownArtifact, TableArtifact
from prefect.exceptions import PrefectException
from prefect.logging import get_run_logger

from flows.progress import PlainProgress, StageDone, open_progress
from flows.views.results import held_out_results, results_markdown
from seal_core.errors import SealError
from storage.sql.catalog import Catalog
from storage.store import Store


@contextmanager
def reported(run: str, store: str) -> Iterator[PlainProgress]:
    """The progress to show; when the block ends, artifacts tell of it.

    After an error they do so if a stage was done.

    There are two: the results with where to ask for more, and a table of the stages.
    """
    with open_progress() as progress:
        try:
            yield progress
        except Exception:
            if progress.stages:  # Else it may be that the run's name stands for another config.
                _publish(run, store, progress.stages)
            raise
    _publish(run, store, progress.stages)


def _publish(run: str, store: str, stages: Sequence[StageDone]) -> None:
    """The server's refusal is logged and stops nothing: the store has it all."""
    slug = artifact_key(run)
    artifacts = [
        MarkdownArtifact(key=f"seal-results-{slug}", markdown=_report(run, store)),
        TableArtifact(
            key=f"seal-stages-{slug}",
            table=[_stage_row(stage) for stage in stages],
            description=f"Shards of run {run}: found in the store, or executed",
        ),
    ]
    try:
        for artifact in artifacts:
            artifact.create(_sync=True)  # pyright: ignore[reportCallIssue]
    except (httpx.HTTPError, PrefectException) as error:
        get_run_logger().warning("the artifacts of run %s were not stored: %s", run, error)


def artifact_key(run: str) -> str:
    """The run's name as Prefect allows it in a key: lower case, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", run.lower()).strip("-")


def _stage_row(stage: StageDone) -> dict[str, str | int | float]:
    return {
        "stage": stage.label,
        "cached": stage.cached,
        "executed": stage.shards - stage.cached,
        "seconds": round(stage.seconds, 1),
    }


def _report(run: str, store: str) -> str:
    try:
        opened = Store.open(store, create=False)
        with Catalog(opened) as catalog:
            results = results_markdown(held_out_results(catalog, run))
        place = str(opened.root)
    except (SealError, OSError) as error:
        results, place = [str(error)], store
    commands = [f"seal {command} {run} --store {place}" for command in ("results", "status")]
    asked = ["", "Ask the store with", "", *(f"    {command}" for command in commands)]
    return "\n".join([f"# Run {run}", "", *results, "", f"Store: `{place}`", *asked])
