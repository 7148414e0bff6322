"""Runs the `seal` flow for the command line, and prints what came of it."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout

import httpx
import typer
from prefect.settings import PREFECT_API_URL

from flows.loading import load_config
from flows.seal_flow import seal
from flows.terminal import table_console
from flows.views.results import held_out_results, print_results
from seal_core.errors import EngineError, SealError
from storage.sql.catalog import Catalog
from storage.store import Store


def execute(
    config: str,
    name: str | None,
    overrides: Sequence[str],
    fork: str | None = None,
    *,
    as_json: bool = False,
) -> None:
    """Runs the flow to its end, and prints the held-out results.

    Raises:
        InputError: wrong input; nothing was written.
        StageError, EngineError: the work failed, or the Prefect server is gone; what is done is
            kept.
    """
    with redirect_stdout(sys.stderr):  # What packages print is no part of the results.
        loaded = load_config(config, overrides)
        # It counts what it has yet to send, line by line, while it waits for a server.
        logging.getLogger("EventsWorker").setLevel(logging.ERROR)
        run = _run_flow(config, name, overrides, fork)
    with Catalog(Store.open(loaded.execution.store)) as catalog:
        results = held_out_results(catalog, run)
    if as_json:
        typer.echo(json.dumps(results.to_json(), indent=2))
    else:
        print_results(results, table_console())


def _run_flow(config: str, name: str | None, overrides: Sequence[str], fork: str | None) -> str:
    """The run's name; without a server, the flow's own error comes before the server's."""
    try:
        return seal(config, name, list(overrides), fork)
    except SealError:
        raise
    except Exception as error:
        chain = list(_chain(error))
        if not any(isinstance(link, httpx.TransportError) for link in chain):
            raise
        for link in chain:
            if isinstance(link, SealError):
                raise link from None
        raise EngineError(
            f"the Prefect server {PREFECT_API_URL.value()} does not answer ({chain[0]}); finished "
            "shards are kept: see to the server, then go on with the same command"
        ) from error


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error, what it came from, and so on; the last one first."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
