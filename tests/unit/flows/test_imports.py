"""Commands start fast, and Prefect meets the settings that `seal run` prepares for it."""

from __future__ import annotations

import subprocess
import sys


def test_commands_are_read_before_prefect_and_torch_are() -> None:
    """Prefect takes its settings from the environment when it is imported."""
    script = (
        "import sys, flows.cli; sys.exit(','.join({'prefect', 'torch'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
