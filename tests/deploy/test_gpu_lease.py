"""A slot of the GPU limit outlives neither its holder nor the server for long.

1. The server is killed and started again, and the holder after it: the slot comes free.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.deploy.site import Site, open_site

LEASE_SECONDS = 60
REPOSSESSOR_SECONDS = 15
HOLD = f"""
import time
from prefect.concurrency.sync import concurrency
with concurrency("gpu", lease_duration={LEASE_SECONDS}):
    print("held", flush=True)
    time.sleep(float("SECONDS"))
"""


def hold(site: Site, seconds: float) -> subprocess.Popen[str]:
    """A process that has the slot, as soon as it gets it."""
    code = HOLD.replace("SECONDS", str(seconds))
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=site.environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


@pytest.mark.deploy
def test_a_slot_comes_free_after_kills(tmp_path: Path) -> None:
    """1"""
    leases = "prefect.server.concurrency.lease_storage.filesystem"
    settings = {"PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": leases, "PREFECT_UI_ENABLED": "0"}
    with open_site(tmp_path, settings) as site:
        server = site.start_server()
        site.run("prefect global-concurrency-limit create gpu --limit 1")
        holder = hold(site, 600)
        server.kill()
        server.wait()
        site.start_server()
        holder.kill()
        holder.wait()
        began = time.monotonic()
        hold(site, 0).wait()
        waited = time.monotonic() - began
    assert waited < LEASE_SECONDS + 2 * REPOSSESSOR_SECONDS + 30
