"""A disk that fills up in the middle of a real run: one line, and the same command goes on."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.comparison import adapter_files, compare, read_tables
from tests.chaos.scenario import Scenario, one_line, small
from tests.waiting import HUNG

pytestmark = pytest.mark.long

_SIZE = 64 << 20


@pytest.fixture
def scenario(tmp_path: Path) -> Iterator[Scenario]:
    """A run whose store is a small disk of its own."""
    scenario = Scenario(tmp_path / "run", small(1, 2, 2))
    scenario.store.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_SIZE}", "tmpfs", str(scenario.store)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs rights that are missing here")
    try:
        yield scenario
    finally:
        subprocess.run(["umount", "-l", str(scenario.store)], check=True)


def test_a_full_disk_stops_a_run_and_room_lets_it_go_on(scenario: Scenario, tmp_path: Path) -> None:
    running = scenario.start()
    assert running.wait_for_stages(3, HUNG), running.errors
    # It stands still meanwhile, however long that takes.
    os.killpg(running.pid, signal.SIGSTOP)
    filler = scenario.store / ".filler"
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(bytes(1 << 16))
    os.killpg(running.pid, signal.SIGCONT)
    assert running.wait(HUNG) == 1, running.errors
    (line,) = one_line(running.errors)
    assert line.startswith("seal: ")
    assert "No space left on device" in line
    assert "free some space, then go on with the same command" in line
    filler.unlink()
    again = scenario.start()
    assert again.wait(HUNG) == 0, again.errors
    undisturbed = Scenario(tmp_path / "undisturbed", scenario.settings)
    whole = undisturbed.start()
    assert whole.wait(HUNG) == 0, whole.errors
    assert not compare(read_tables(undisturbed.store), read_tables(scenario.store))
    assert adapter_files(undisturbed.store) == adapter_files(scenario.store)
