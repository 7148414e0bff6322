"""Finds the processes of a run from outside: children by what they run, survivors by a mark."""

from __future__ import annotations

import time
from pathlib import Path

MARK = "SEAL_CHAOS_MARK"
"""Variable that all processes of one start of a run inherit, wherever they move to."""

ENGINE = "seal_core.process.host"
PREFECT = "prefect.server.api.server"
VLLM = "vllm.entrypoints"


def children(pid: int) -> list[int]:
    """Child processes, whichever thread started them."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        found += [int(child) for child in _read(task).split()]
    return found


def descendants(pid: int) -> list[int]:
    """Children, their children and so on."""
    found = []
    for child in children(pid):
        found += [child, *descendants(child)]
    return found


def runs(pid: int, what: str) -> bool:
    """Whether this text is in a process's command line."""
    return what.encode() in _read(Path(f"/proc/{pid}/cmdline"))


def child_with(pid: int, what: str) -> list[int]:
    """Children that run `what`."""
    return [child for child in children(pid) if runs(child, what)]


def survivors(mark: str) -> list[str]:
    """Living processes with a mark, as `pid command`."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and wanted in _read(entry / "environ").split(b"\0"):
            command = _read(entry / "cmdline").replace(b"\0", b" ").decode(errors="replace")
            if command:  # A zombie has none.
                found.append(f"{entry.name} {command[:120]}")
    return found


def wait_until_gone(mark: str, seconds: float) -> list[str]:
    """Waits for all processes with a mark to end; those that do not."""
    deadline = time.monotonic() + seconds
    while (left := survivors(mark)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return left


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""  # The process has ended since it was listed.
