"""Commands start fast, and Prefect meets the settings that `seal run` prepares for it."""

from __future__ import annotations

import subprocess
import sys


def test_commands_are_read_before_prefect_and_torch_are() -> None:
    """Prefect takes its settings from the environment when it is imported."""
    script = (
        "import sys; from typer.main import get_command; from flows.cli import app; "
        "read = dict(get_command(app).commands); "
        "sys.exit(','.join({'prefect', 'torch'} & set(sys.modules)) or 0 if read else 'none')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_command_does_not_import_what_only_others_need() -> None:
    script = (
        "import sys; from typer.main import get_command; from flows.cli import app; "
        "get_command(app).commands['sql']; sys.exit(int('scipy' in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
