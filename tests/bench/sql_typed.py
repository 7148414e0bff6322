"""Runs a command; prints its seconds and peak memory as JSON.

A process of its own and with next to nothing in it, since a child's peak begins with its parent's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time


def main(command: list[str]) -> None:
    """Ends with the command's exit code."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall, cpu = time.perf_counter() - start, used.ru_utime + used.ru_stime
    print(json.dumps({"wall": wall, "cpu": cpu, "peak": used.ru_maxrss * 1024}))
    sys.exit(process.returncode)


if __name__ == "__main__":
    main(sys.argv[1:])
