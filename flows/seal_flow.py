"""The `seal` flow: opens a run, works the algorithm off, and leaves a report on the server."""

from __future__ import annotations

from collections.abc import Sequence

from prefect import flow

from flows.estimating import check_room, estimate_lines, is_begun
from flows.loading import load_config, with_store
from flows.prefect_server.worker import dated, watch_worker
from flows.seal import restem
from flows.views.artifacts import reported
from tasks.context import Progress
from tasks.opening.open_run import OpenEngines, engine_processes, open_run
from tasks.opening.preflight import Preflight, preflight
from tasks.running.count import Count


@flow(name="seal")
def seal(
    config: str,
    name: str | None = None,
    overrides: Sequence[str] = (),
    fork: str | None = None,
    rehash: bool = False,
) -> str:
    """Runs, or resumes, a SEAL run; returns its name.

    Args:
        config: Path of a TOML file.
        name: Name of the run; default is `run.name` of the config. `{date}` in it stands for
            the day that the flow run is scheduled for, which a retry does not change.
        overrides: Settings as `section.key=value`.
        fork: Run whose finished work this one starts from.
        rehash: Hash the model's files whatever is remembered of them.
    """
    watch_worker()
    checked = preflight(load_config(config, with_store(overrides)), dated(name), rehash)
    root = checked.config.execution.store
    found, begun = check_room(checked), is_begun(root, checked.name)
    with reported(checked.name, root) as progress:
        for line in () if begun else estimate_lines(found):
            progress.note(line)
        run_rounds(checked, progress, fork=fork)
    return checked.name


def run_rounds(
    checked: Preflight,
    progress: Progress,
    open_engines: OpenEngines = engine_processes,
    fork: str | None = None,
) -> None:
    """Opens a run and works it off, inside a flow run."""
    with open_run(checked, progress, open_engines, fork) as run:
        count = Count(run.splits)
        restem(count, checked.config)
        progress.expect(count.by_stage)
        restem(run, checked.config)
