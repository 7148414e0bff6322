"""One Prefect server for the commands of most files; those of `test_command` start their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.prefect_server.server import Server

OWN_SERVERS = {"test_command", "test_full_disk", "test_odd_places"}


@pytest.fixture(scope="session")
def prefect_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server as a command starts it, for all of them."""
    home = tmp_path_factory.mktemp("prefect")
    server = Server(Path(home) / "server.log")
    server.start()
    yield server.url
    server.close()


@pytest.fixture(scope="module", autouse=True)
def server_of_commands(request: pytest.FixtureRequest) -> Iterator[None]:
    """Points the commands of a file to it."""
    name = request.module.__name__.rpartition(".")[2]
    with pytest.MonkeyPatch.context() as patch:
        if name not in OWN_SERVERS:
            patch.setenv("PREFECT_API_URL", request.getfixturevalue("prefect_url"))
        yield
