"""Runs a server as a child and ends it, with all its own children, when the parent is gone.

Started as a script of its own in a new session, so that the server ends even after a kill -9
of the process that wanted it. Uses the standard library only.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

_POLL_SECONDS = 0.2
_GRACE_SECONDS = 5.0
_TRACKER = b"resource_tracker"
_PR_SET_PDEATHSIG = 1


def guarded(command: Sequence[str], folder: str = "") -> list[str]:
    """The command under a guard of this process; start it in a new session.

    Args:
        folder: Removed when this process leaves it behind.
    """
    return [sys.executable, "-P", __file__, str(os.getpid()), folder, *command]


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def end_group(group: int, spare: int | None = None) -> None:
    """Kills every process of a group at once.

    Python's resource trackers are left a moment longer: they remove the shared memory of the
    processes that were killed, and end by themselves.

    Args:
        spare: A process of the group that stays.
    """
    proc = Path("/proc")
    if not proc.is_dir():  # Without it the members are unknown, and all die together.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
        return
    deadline = time.monotonic() + _GRACE_SECONDS
    while members := [pid for pid in _members(proc, group) if pid != spare]:
        late = time.monotonic() > deadline
        for pid in members:
            if late or _TRACKER not in _read(proc / str(pid) / "cmdline"):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        time.sleep(_POLL_SECONDS / 4)


def _members(proc: Path, group: int) -> list[int]:
    """Living processes of the group."""
    found = []
    for entry in proc.iterdir():
        if entry.name.isdecimal():
            # The name, in brackets, may hold spaces; state, parent and group follow it.
            fields = _read(entry / "stat").rpartition(b")")[2].split()
            if len(fields) > 2 and int(fields[2]) == group and fields[0] not in (b"Z", b"X"):
                found.append(int(entry.name))
    return found


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""  # The process has ended since it was listed.


def _how(code: int) -> str:
    if code >= 0:
        return f"with exit code {code}"
    return f"by {signal.Signals(-code).name}"


def _start(command: Sequence[str]) -> subprocess.Popen[bytes]:
    """The server; where the kernel can, it is asked to end if the guard is killed itself."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is None:
        return subprocess.Popen(command)
    signal_number = int(signal.SIGTERM)
    # A function of the child's is safe here, where there is only one thread.
    return subprocess.Popen(command, preexec_fn=lambda: prctl(_PR_SET_PDEATHSIG, signal_number))


def main() -> None:
    """Runs `guard PARENT FOLDER COMMAND...`.

    FOLDER, if it is not empty, is removed when the parent left it behind.
    """
    parent, folder, command = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: asked.append(number))
    child = _start(command)
    while child.poll() is None and not asked and os.getppid() == parent:
        time.sleep(_POLL_SECONDS)
    if child.returncode is not None:
        print(f"SEAL: the server ended {_how(child.returncode)}", flush=True)
    else:
        child.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(_GRACE_SECONDS)
    end_group(os.getpgid(0), spare=os.getpid())
    if folder and os.getppid() != parent:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
