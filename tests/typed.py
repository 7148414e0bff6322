"""A command as typed, in this process: starting a new one takes seconds of imports each time.

Commands that run flows need a process of their own.
"""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
from pathlib import Path
from unittest import mock

from flows.cli import _answer


def typed(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """What `seal ARGUMENTS` in this folder gives."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(cwd),
        mock.patch.object(sys, "argv", ["seal", *arguments]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        code = _answer()
    return subprocess.CompletedProcess(["seal", *arguments], code, out.getvalue(), err.getvalue())


def ask(*arguments: str, cwd: Path, code: int = 0) -> str:
    """What it prints, if it ends with this code."""
    done = typed(*arguments, cwd=cwd)
    assert done.returncode == code, done.stderr
    return done.stdout
