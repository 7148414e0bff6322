"""A deployed run watches its worker: a Python process may be one, a reaper of orphans is none."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from flows.prefect_server.worker import _may_be_worker


@pytest.mark.skipif(not os.path.exists("/proc/self/cmdline"), reason="this system does not tell")
def test_a_reaper_is_no_worker() -> None:
    assert _may_be_worker(os.getpid())
    assert "python" in sys.executable
    with subprocess.Popen(["sleep", "60"]) as reaper:
        assert not _may_be_worker(reaper.pid)
        reaper.kill()
    assert _may_be_worker(reaper.pid)  # It is gone, which the change of parent tells.
